"""As strict as Modal: what would fail there fails here, and in the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(100)


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def test_a_local_package_that_was_not_added_to_the_image_is_not_there(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "__init__.py").write_text("ANSWER = 42\n")
    write_app(
        tmp_path,
        """
        import modal
        app = modal.App("forgot-package")

        @app.function()
        def answer():
            import ours
            return ours.ANSWER
        """,
    )
    result = modal(emulator, "run", "app.py", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert result.returncode != 0
    assert "ModuleNotFoundError: No module named 'ours'" in result.stdout + result.stderr


def test_a_local_package_imported_at_the_top_fails_the_waiting_call_instead_of_booting_for_ever(
    emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "ours.py").write_text("ANSWER = 42\n")
    write_app(
        tmp_path,
        """
        import modal
        import ours
        app = modal.App("forgot-module")

        @app.function()
        def answer():
            return ours.ANSWER
        """,
    )
    result = modal(emulator, "run", "app.py", cwd=tmp_path)
    assert result.returncode != 0
    assert "No module named 'ours'" in result.stdout + result.stderr


def test_the_same_package_is_there_once_it_is_added(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("ANSWER = 42\n")
    (tmp_path / "baked.txt").write_text("baked in\n")
    write_app(
        tmp_path,
        """
        import modal
        import ours
        image = modal.Image.debian_slim().env({"SHADE": "blue"})
        image = image.add_local_file("baked.txt", "/root/baked.txt", copy=True).add_local_python_source("ours")
        app = modal.App("added-module", image=image)

        @app.function()
        def answer():
            import os
            return ours.ANSWER, os.environ["SHADE"], open("/root/baked.txt").read().strip()

        @app.local_entrypoint()
        def main():
            print("ANSWER", answer.remote())
        """,
    )
    result = modal(emulator, "run", "app.py", cwd=tmp_path)
    assert "ANSWER (42, 'blue', 'baked in')" in result.stdout, result.stdout + result.stderr


def test_a_secret_that_does_not_exist_fails_the_deploy(emulator: Emulator, tmp_path: Path) -> None:
    write_app(
        tmp_path,
        """
        import modal
        app = modal.App("no-secret")

        @app.function(secrets=[modal.Secret.from_name("nobody-made-this")])
        def answer():
            return 42
        """,
    )
    result = modal(emulator, "deploy", "app.py", cwd=tmp_path)
    assert result.returncode != 0
    assert "Secret 'nobody-made-this' not found in environment 'main'" in result.stdout + result.stderr
    with pytest.raises(LookupError):
        emulator.web_url("no-secret", "answer")


def test_a_file_that_only_the_deployers_disk_has_is_not_there(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("1,2\n")
    write_app(
        tmp_path,
        """
        import modal
        app = modal.App("local-file")

        @app.function()
        def read():
            return open("table.csv").read()
        """,
    )
    result = modal(emulator, "run", "app.py", cwd=tmp_path)
    assert result.returncode != 0
    assert "FileNotFoundError" in result.stdout + result.stderr
