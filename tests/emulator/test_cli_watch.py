"""Which changes deploy an app again."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from emulator import watch
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


def test_more_folders_than_can_be_watched_are_told_and_the_nearest_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/inner/most", "b", "c"):
        (tmp_path / name).mkdir(parents=True)
    said: list[str] = []
    monkeypatch.setattr(watch, "MAX_DIRECTORIES", 4)
    assert watch.watched(tmp_path, said.append) == [tmp_path, *(tmp_path / name for name in "abc")]
    assert said == [f"{tmp_path} has more than 4 folders: changes beyond {tmp_path / 'c'} are not seen"]
    monkeypatch.setattr(watch, "MAX_DIRECTORIES", 6)
    assert len(watch.watched(tmp_path, said.append)) == 6
    assert len(said) == 1


async def test_source_and_settings_count_and_nothing_else_also_in_folders_that_are_new(tmp_path: Path) -> None:
    async def next_batch() -> list[str]:
        async with asyncio.timeout(30):
            return sorted({path.relative_to(tmp_path).as_posix() for path in await anext(stream)})

    async def until_seen(file: Path) -> list[str]:
        """Change it until that is seen: from when on a new folder is watched, nothing tells."""
        waiting = asyncio.create_task(next_batch())
        for text in itertools.count():
            file.write_text(str(text))  # noqa: ASYNC240
            if (await asyncio.wait([waiting], timeout=0.01))[0]:
                return waiting.result()
        raise AssertionError

    stream = changes(tmp_path, print)
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

    assert await until_seen(tmp_path / "new" / "config.toml") == ["new/config.toml"]
    await stream.aclose()  # type: ignore[attr-defined]
