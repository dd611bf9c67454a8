"""What is said while images are built, what a build that fails does, and what is not built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parity.kit import Target

APP = """
import modal

app = modal.App("sample", image={image})

@app.function()
def f() -> str:
    return "ran"

@app.local_entrypoint()
def main():
    print(f.remote())
"""


def write(folder: Path, image: str) -> str:
    (folder / "sample.py").write_text(APP.format(image=image))
    return str(folder / "sample.py")


@pytest.mark.row("Images", "a build that fails")
@pytest.mark.row("Images", "what a build says")
def test_a_failing_build_fails_the_deploy_with_its_log(target: Target, tmp_path: Path) -> None:
    file = write(tmp_path, 'modal.Image.debian_slim().pip_install("no-such-package", extra_options="--no-index")')
    failed = target.cli("deploy", "--name", target.unique("failing"), file)
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert "RUN python -m pip install no-such-package --no-index" in said
    assert "No matching distribution found for no-such-package" in said
    assert "Image build for im-" in said
    assert "failed" in said


@pytest.mark.row("Images", "`Image.poetry_install_from_file`")
def test_poetry_is_refused_by_name(target: Target, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.poetry]\n")
    project = str(tmp_path / "pyproject.toml")
    image = f"modal.Image.debian_slim().poetry_install_from_file({project!r}, ignore_lockfile=True)"
    refused = target.cli("deploy", "--name", target.unique("poetic"), write(tmp_path, image))
    assert refused.returncode == 1
    assert "poetry_install_from_file" in refused.stdout + refused.stderr
