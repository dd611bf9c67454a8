"""Compiled kernels outlive their container, and nothing that is wrong with them keeps an engine from starting."""

from __future__ import annotations

import logging
import os
import tarfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from functions import compile_cache
from functions.compile_cache import CompileCache, key_of, variables

H100 = "NVIDIA H100 80GB HBM3"
VERSIONS = {"sglang": "0.5.23", "torch": "2.13.0"}


class Volume:
    """A folder, and how often it was committed."""

    def __init__(self, folder: Path) -> None:
        self.archive = folder / "volume" / "qwen" / "h100.tar"
        self.commits = 0

    def commit(self) -> None:
        self.commits += 1

    def cache(self, folder: Path) -> CompileCache:
        """Of a container whose disk is `folder`."""
        return CompileCache(archive=self.archive, folder=folder / "compiled" / "qwen", commit=self.commit)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def compiled(cache: CompileCache, name: str = "triton/ab/kernel.so", content: bytes = b"\x7fELF") -> None:
    file = cache.folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def test_what_one_container_has_compiled_the_next_one_finds_where_it_was(volume: Volume, tmp_path: Path) -> None:
    first = volume.cache(tmp_path / "one")
    assert not first.restore()
    compiled(first)
    compiled(first, "deep_gemm/locks/a", b"")
    compiled(first, "triton/ab/x.lock", b"")
    assert first.keep()
    assert volume.commits == 1
    second = volume.cache(tmp_path / "two")
    assert second.restore()
    assert (second.folder / "triton/ab/kernel.so").read_bytes() == b"\x7fELF"
    assert [file.name for file in second.folder.rglob("*") if file.is_file()] == ["kernel.so"]


def test_nothing_is_written_where_nothing_was_compiled(volume: Volume, tmp_path: Path) -> None:
    first = volume.cache(tmp_path / "one")
    assert not first.keep()
    compiled(first)
    assert first.keep()
    assert not first.keep()
    second = volume.cache(tmp_path / "two")
    second.restore()
    assert not second.keep()
    compiled(second, "triton/cd/other.so")
    assert second.keep()
    assert volume.commits == 2


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\0" * 100_000])
def test_a_broken_archive_is_as_good_as_none_and_is_replaced(volume: Volume, tmp_path: Path, content: bytes) -> None:
    volume.archive.parent.mkdir(parents=True)
    volume.archive.write_bytes(content)
    cache = volume.cache(tmp_path)
    assert not cache.restore()
    compiled(cache)
    assert cache.keep()
    assert volume.cache(tmp_path / "next").restore()


def test_an_archive_that_was_cut_short_leaves_nothing_half(volume: Volume, tmp_path: Path) -> None:
    first = volume.cache(tmp_path / "one")
    for number in range(3):
        compiled(first, f"triton/{number}/kernel.so", bytes(50_000))
    first.keep()
    volume.archive.write_bytes(volume.archive.read_bytes()[:60_000])
    second = volume.cache(tmp_path / "two")
    assert not second.restore()
    assert not list(second.folder.rglob("*"))
    assert [path.name for path in second.folder.parent.iterdir()] in ([], ["qwen"])


def test_a_container_that_has_no_more_time_leaves_the_archive_that_was_there(volume: Volume, tmp_path: Path) -> None:
    first = volume.cache(tmp_path / "one")
    compiled(first)
    assert first.keep()
    before = volume.archive.read_bytes()
    compiled(first, "triton/cd/other.so")

    add = tarfile.TarFile.add

    def ends(*arguments: Any, **options: Any) -> None:
        first.give_up()
        add(*arguments, **options)

    with mock.patch.object(tarfile.TarFile, "add", ends):
        assert not first.keep()
    assert [file.name for file in volume.archive.parent.iterdir()] == [volume.archive.name]
    assert volume.archive.read_bytes() == before
    assert not first.keep(), "that was for good"
    assert volume.commits == 1


def test_what_a_killed_container_has_left_is_removed_by_a_later_one(volume: Volume, tmp_path: Path) -> None:
    volume.archive.parent.mkdir(parents=True)
    left, written_now = (volume.archive.with_name(f"h100.tar.{pid}.partial") for pid in (1, 2))
    for file in (left, written_now):
        file.write_bytes(b"half")
    os.utime(left, (0, 0))
    volume.cache(tmp_path).restore()
    assert not left.exists()
    assert written_now.exists()


def test_a_file_that_goes_while_the_others_are_packed_takes_none_of_them_along(volume: Volume, tmp_path: Path) -> None:
    first = volume.cache(tmp_path / "one")
    compiled(first)
    compiled(first, "triton/ab/passing")
    add = tarfile.TarFile.add

    def goes(*arguments: Any, **options: Any) -> None:
        (first.folder / "triton/ab/passing").unlink(missing_ok=True)
        add(*arguments, **options)

    with mock.patch.object(tarfile.TarFile, "add", goes):
        assert first.keep()
    second = volume.cache(tmp_path / "two")
    assert second.restore()
    assert [file.name for file in second.folder.rglob("*") if file.is_file()] == ["kernel.so"]


def test_a_volume_that_cannot_be_written_is_logged_and_no_more(
    volume: Volume, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "volume").write_text("a file where the Volume should be")
    cache = volume.cache(tmp_path / "one")
    with caplog.at_level(logging.WARNING):
        assert not cache.restore()
        compiled(cache)
        assert not cache.keep()
    assert "compiled kernels cannot be kept" in caplog.text


def test_a_commit_that_fails_is_tried_again_the_next_time(tmp_path: Path) -> None:
    answers = iter([OSError("the Volume is full"), None])

    def commit() -> None:
        error = next(answers)
        if error is not None:
            raise error

    cache = CompileCache(archive=tmp_path / "a.tar", folder=tmp_path / "compiled", commit=commit)
    compiled(cache)
    assert [cache.keep(), cache.keep(), cache.keep()] == [False, True, False]


def test_other_hardware_and_other_versions_have_other_archives() -> None:
    key = key_of([H100], VERSIONS)
    assert key.startswith("nvidia-h100-80gb-hbm3-")
    assert key == key_of([H100], dict(reversed(VERSIONS.items())))
    others = {
        key_of([H100, H100], VERSIONS), key_of(["NVIDIA H200"], VERSIONS),
        key_of([H100], {**VERSIONS, "torch": "2.13.1"}), key_of([], VERSIONS),
    }  # fmt: skip
    assert len(others) == 4
    assert key not in others


def test_the_driver_tells_which_gpus_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (0, 1):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t {H100}\nIRQ:   \t\t 12{number}\nGPU UUID: \t GPU-{number}\n")
    monkeypatch.setattr(compile_cache, "DRIVER", tmp_path)
    assert compile_cache.gpus_here() == [H100, H100]


def test_every_cache_of_sglang_lies_below_the_folder() -> None:
    told = variables(Path("/tmp/compiled/qwen"))
    assert told["SGLANG_CACHE_DIR"] == "/tmp/compiled/qwen"
    assert {name for name, path in told.items() if not path.startswith("/tmp/compiled/qwen")} == set()
    assert {"TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE", "SGLANG_DG_CACHE_DIR"} <= set(
        told
    )
