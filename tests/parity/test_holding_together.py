"""Two emulators at once: neither touches what is the other's."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.record import read
from tests.emulator.traces import commanded, sweep
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from pathlib import Path

APP = "import modal\napp = modal.App('same')\n@app.function(min_containers=1)\ndef who():\n    return '{name}'\n"


@pytest.mark.slow
@pytest.mark.emulator_only("it needs two")
@pytest.mark.row("How it holds", "two emulators at once")
def test_one_that_starts_or_ends_leaves_the_other_whole(tmp_path: Path, temporary: Path) -> None:
    """With one temporary folder for both, in which a third was killed."""
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "app.py").write_text(APP.format(name=name))
    arguments = ("up", "--port", "0", "--no-reload")
    with commanded(*arguments, cwd=tmp_path / "one", temporary=temporary) as one:
        one.says("Ready: ")
        with commanded(*arguments, cwd=tmp_path / "three", temporary=temporary) as killed:
            killed.says("Ready: ")
            killed.send(signal.SIGKILL)
            killed.ends()
        with commanded(*arguments, cwd=tmp_path / "two", temporary=temporary) as two:
            two.says("Ready: ")
            clients = {name: client_of(read(tmp_path / name / ".modal-emulator")) for name in ("one", "two")}
            for name, client in clients.items():
                assert modal.Function.from_name("same", "who", client=client).remote() == name
            folders = set(temporary.iterdir())
            two.send(signal.SIGTERM)
            assert two.ends() == 0
        assert set(temporary.iterdir()) < folders
        sweep(temporary)
        assert modal.Function.from_name("same", "who", client=clients["one"]).remote() == "one"
        for client in clients.values():
            client.close()
        one.send(signal.SIGTERM)
        assert one.ends() == 0
    assert list(temporary.iterdir()) == []
