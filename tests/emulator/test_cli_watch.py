"""Which changes deploy an app again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from emulator.watch import changes, directories, source_directory


def test_virtual_environments_caches_tests_and_hidden_folders_are_not_watched(tmp_path: Path) -> None:
    for name in ("package/inner", "env/lib", ".git/objects", "__pycache__", "node_modules/x", "tests/a", "data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    found = {path.relative_to(tmp_path).as_posix() for path in directories(tmp_path)}
    assert found == {".", "package", "package/inner", "data"}


def test_the_source_of_an_app_is_beside_its_file_or_where_its_module_is_found(tmp_path: Path) -> None:
    assert source_directory("a/app.py::app", tmp_path) == tmp_path / "a"
    assert source_directory("package.app", tmp_path) == tmp_path


async def test_source_and_settings_count_and_nothing_else_also_in_folders_that_are_new(tmp_path: Path) -> None:
    async def next_batch() -> list[str]:
        async with asyncio.timeout(10):
            return sorted({path.relative_to(tmp_path).as_posix() for path in await anext(stream)})

    stream = changes(tmp_path)
    (tmp_path / "app.py").touch()
    waiting = asyncio.create_task(next_batch())
    await asyncio.sleep(0)  # it watches from its first step on
    await asyncio.sleep(0)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "app.py").write_text("x")
    assert await waiting == ["app.py"]

    waiting = asyncio.create_task(next_batch())
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.toml").write_text("x")
    assert await waiting == ["new/config.toml"]

    waiting = asyncio.create_task(next_batch())
    await asyncio.sleep(0.05)  # the new folder is watched by now
    (tmp_path / "new" / "config.toml").write_text("y")
    assert await waiting == ["new/config.toml"]
    await stream.aclose()  # type: ignore[attr-defined]
