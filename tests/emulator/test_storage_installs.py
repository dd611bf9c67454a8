"""What an image installs is read from its commands, so that the deployer is told what is not here."""

from __future__ import annotations

import pytest

from emulator.storage.installs import not_installed, packages


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (
            "RUN python -m pip install 'fastapi[standard]==0.115' pandas --index-url https://x/simple",
            ["fastapi", "pandas"],
        ),
        (
            "RUN /.uv/uv pip install --python $(command -v python) --compile-bytecode 'torch>=2' numpy",
            ["torch", "numpy"],
        ),
        ("RUN python -m pip install -r /.requirements.txt --extra-index-url https://x", []),
        ("RUN pip install --upgrade pip wheel uv", []),
        ("RUN pip install 'git+https://x/y.git'", []),
        ("RUN pip install 'unbalanced", []),
        ("RUN apt-get install -y ffmpeg", []),
    ],
)
def test_names_stand_in_the_command_and_options_and_their_values_are_none(command: str, names: list[str]) -> None:
    assert packages(command) == names


def test_those_that_are_not_here_are_named_once() -> None:
    assert not_installed(["modal", "no-such-package", "aiohttp", "no-such-package"]) == ["no-such-package"]
