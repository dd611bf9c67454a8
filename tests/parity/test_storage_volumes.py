"""A Volume's files from outside, of both versions: what comes in comes out, and what can not be is told."""

from __future__ import annotations

import io
import os
import secrets
from typing import TYPE_CHECKING

import modal
import pytest
from modal.exception import AlreadyExistsError, InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.parity.kit import Target

BLOCK = 8 << 20


def put(volume: modal.Volume, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, content in files.items():
            batch.put_file(io.BytesIO(content), path)


def read(volume: modal.Volume, path: str) -> bytes:
    return b"".join(volume.read_file(path))


def names(volume: modal.Volume, path: str = "/", *, recursive: bool = True) -> list[str]:
    return sorted(entry.path for entry in volume.listdir(path, recursive=recursive))


@pytest.fixture(params=[1, 2], ids=["version 1", "version 2"])
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def volume(version: int, target: Target) -> Iterator[modal.Volume]:
    with modal.Volume.ephemeral(version=version, client=target.client) as made:  # type: ignore[arg-type]
        yield made


@pytest.fixture
def name(target: Target) -> Iterator[str]:
    """Of a Volume that the test makes, gone after it."""
    made = f"{target.session}-{secrets.token_hex(4)}"
    yield made
    modal.Volume.objects.delete(made, allow_missing=True, client=target.client)


# As objects


@pytest.mark.row("Storage", "Volume.from_name")
@pytest.mark.row("Storage", "Volume.objects")
def test_a_volume_is_made_once_found_by_its_name_listed_and_deleted(target: Target, name: str) -> None:
    client = target.client
    with pytest.raises(NotFoundError, match=name):
        modal.Volume.from_name(name, client=client).hydrate()
    made = modal.Volume.from_name(name, create_if_missing=True, client=client).hydrate()
    assert modal.Volume.from_name(name, client=client).hydrate().object_id == made.object_id
    with pytest.raises(AlreadyExistsError):
        modal.Volume.objects.create(name, client=client)
    modal.Volume.objects.create(name, allow_existing=True, client=client)
    assert name in [listed.name for listed in modal.Volume.objects.list(client=client)]
    modal.Volume.objects.delete(name, client=client)
    assert name not in [listed.name for listed in modal.Volume.objects.list(client=client)]
    with pytest.raises(NotFoundError):
        modal.Volume.objects.delete(name, client=client)
    with pytest.raises(NotFoundError):
        made.listdir("/")


@pytest.mark.row("Storage", "Volume versions")
def test_a_volume_is_of_version_1_unless_asked_for_and_keeps_its_version(target: Target, name: str) -> None:
    client = target.client
    modal.Volume.objects.create(name, client=client)
    modal.Volume.from_name(name, version=1, client=client).hydrate()
    with pytest.raises(InvalidError, match="has version v1, not v2"):
        modal.Volume.from_name(name, version=2, client=client).hydrate()


@pytest.mark.row("Storage", "Volume.from_id")
@pytest.mark.row("Storage", "Volume.info")
@pytest.mark.row("Storage", "Volume.rename")
def test_a_renamed_volume_is_the_same_under_another_name(target: Target, name: str) -> None:
    client = target.client
    made = modal.Volume.from_name(name, create_if_missing=True, client=client).hydrate()
    put(made, {"/kept": b"kept"})
    modal.Volume.rename(name, f"{name}-new", client=client)
    try:
        with pytest.raises(NotFoundError):
            modal.Volume.from_name(name, client=client).hydrate()
        again = modal.Volume.from_id(made.object_id, client=client)
        assert again.info().name == f"{name}-new"
        assert again.info().created_by
        assert read(again, "kept") == b"kept"
        modal.Volume.objects.create(name, client=client)
        with pytest.raises(AlreadyExistsError, match="already exists"):
            modal.Volume.rename(name, f"{name}-new", client=client)
    finally:
        modal.Volume.objects.delete(f"{name}-new", client=client)


@pytest.mark.row("Storage", "Volume.ephemeral")
def test_an_ephemeral_volume_is_empty_and_has_no_name(volume: modal.Volume, target: Target) -> None:
    assert volume.listdir("/") == []
    assert volume.info().name is None
    assert volume.object_id not in [one.object_id for one in modal.Volume.objects.list(client=target.client)]


# Files


@pytest.mark.row("Storage", "Volume.batch_upload")
@pytest.mark.row("Storage", "Volume.read_file")
@pytest.mark.row("Storage", "Volume.listdir")
def test_what_is_put_is_listed_and_read(volume: modal.Volume, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "one").write_text("1")
    (tmp_path / "empty").touch()
    # Blocks that differ, that are alike, that end in zeros, and that are nothing else.
    content = b"".join((os.urandom(1 << 20).ljust(BLOCK, b"\0"), *2 * [b"\1" * BLOCK], b"tail".ljust(BLOCK + 5, b"\0")))
    (tmp_path / "large").write_bytes(content)
    with volume.batch_upload() as batch:
        batch.put_directory(tmp_path, "/from")
        batch.put_file(tmp_path / "sub" / "one", "deep/down/copy")
        batch.put_file(io.BytesIO(b"of an object"), "/object")
    assert read(volume, "from/large") == content
    assert [read(volume, path) for path in ("from/empty", "/deep/down/copy", "object")] == [b"", b"1", b"of an object"]
    listed = {entry.path: (entry.type.name, entry.size) for entry in volume.iterdir("/")}
    assert listed["from/large"] == ("FILE", len(content))
    assert listed["from/sub"][0] == "DIRECTORY"
    assert names(volume, recursive=False) == ["deep", "from", "object"]
    assert names(volume, "/from") == ["from/empty", "from/large", "from/sub", "from/sub/one"]
    assert names(volume, "from/sub/one") == ["from/sub/one"]


@pytest.mark.row("Storage", "Volume.batch_upload")
def test_a_file_that_is_there_is_replaced_by_force_only_and_a_directory_never(volume: modal.Volume) -> None:
    put(volume, {"/dir/file": b"first"})
    with pytest.raises(FileExistsError, match="already exists"):
        put(volume, {"/new": b"new", "/dir/file": b"second"})
    assert (names(volume), read(volume, "dir/file")) == (["dir", "dir/file"], b"first")  # nothing of it has come
    put(volume, {"/dir/file": b"second"}, force=True)
    assert read(volume, "dir/file") == b"second"
    with pytest.raises(FileExistsError, match="directory"):
        put(volume, {"/dir": b"no"}, force=True)
    with pytest.raises(InvalidError, match="is a file, not a directory"):
        put(volume, {"/dir/file/below": b"no"}, force=True)


@pytest.mark.row("Storage", "Volume.batch_upload")
def test_an_upload_that_its_block_leaves_by_an_exception_puts_nothing(volume: modal.Volume) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"), volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"x"), "/x")
        raise RuntimeError("changed my mind")
    assert names(volume) == []


@pytest.mark.row("Storage", "Volume.read_file")
@pytest.mark.row("Storage", "Volume.listdir")
def test_what_is_missing_is_told(volume: modal.Volume) -> None:
    put(volume, {"/dir/file": b"x"})
    for path in ("nope", "/dir/nope", "dir/file/below"):
        with pytest.raises(FileNotFoundError):
            read(volume, path)
        with pytest.raises(FileNotFoundError):
            volume.remove_file(path)
        with pytest.raises(NotFoundError):
            volume.listdir(path)


@pytest.mark.row("Storage", "Volume.remove_file")
def test_a_directory_is_removed_recursively_only(volume: modal.Volume) -> None:
    put(volume, {"/dir/a": b"a", "/dir/sub/b": b"b", "/c": b"c"})
    with pytest.raises(InvalidError, match="directory"):
        volume.remove_file("/dir")
    volume.remove_file("c")
    volume.remove_file("/dir/a")
    assert names(volume) == ["dir", "dir/sub", "dir/sub/b"]
    volume.remove_file("dir", recursive=True)
    assert names(volume) == []


@pytest.mark.row("Storage", "Volume.copy_files")
def test_files_are_copied_as_cp_does(volume: modal.Volume) -> None:
    put(volume, {"/a": b"a", "/b": b"b", "/dir/c": b"c"})
    volume.copy_files(["a"], "a2")
    volume.copy_files(["a", "b"], "/dir")
    volume.copy_files(["b"], "a2")
    assert (read(volume, "a2"), read(volume, "dir/a")) == (b"b", b"a")
    assert names(volume) == ["a", "a2", "b", "dir", "dir/a", "dir/b", "dir/c"]
    for sources, path in ((["a", "b"], "a2"), (["dir"], "dir2"), (["a"], "a"), (["a"], "b/")):
        with pytest.raises(InvalidError):
            volume.copy_files(sources, path)
    for sources, path in ((["nope"], "x"), (["a"], "no/such/folder")):
        with pytest.raises(NotFoundError):
            volume.copy_files(sources, path)


@pytest.mark.row("Storage", "Volume.copy_files")
def test_directories_are_copied_in_version_2_only(volume: modal.Volume, version: int) -> None:
    put(volume, {"/dir/sub/c": b"c"})
    if version == 1:
        with pytest.raises(ValueError, match="not supported for V1"):
            volume.copy_files(["dir"], "dir2", recursive=True)
        return
    volume.copy_files(["dir"], "dir2", recursive=True)
    volume.copy_files(["dir"], "dir2", recursive=True)  # which is there now, so it comes into it
    assert names(volume, "dir2") == ["dir2/dir", "dir2/dir/sub", "dir2/dir/sub/c", "dir2/sub", "dir2/sub/c"]
    with pytest.raises(InvalidError, match="itself, or in it"):
        volume.copy_files(["dir"], "dir/sub", recursive=True)


@pytest.mark.row("Storage", "paths in a Volume")
def test_no_path_leads_out_of_a_volume(volume: modal.Volume) -> None:
    put(volume, {"/a": b"a"})
    for path in ("../a", "x/../../a", "/.."):
        with pytest.raises(InvalidError, match="leads out of the Volume"):
            read(volume, path)
        with pytest.raises(InvalidError, match="leads out of the Volume"):
            volume.listdir(path)
        with pytest.raises(InvalidError, match="leads out of the Volume"):
            volume.remove_file(path)
        with pytest.raises(InvalidError, match="leads out of the Volume"):
            volume.copy_files(["a"], path)
        with pytest.raises(InvalidError, match="leads out of the Volume"):
            put(volume, {f"{path}/b": b"b"})


@pytest.mark.row("Storage", "a download while the file is replaced")
@pytest.mark.slow
def test_a_download_is_of_the_file_as_it_was_when_it_began(volume: modal.Volume) -> None:
    before = b"".join(str(number).encode().ljust(BLOCK, b"\0") for number in range(6))
    put(volume, {"/file": before})
    chunks = volume.read_file("file")
    begun = next(chunks)
    put(volume, {"/file": b"shorter"}, force=True)
    volume.remove_file("file")
    assert begun + b"".join(chunks) == before


@pytest.mark.slow
@pytest.mark.row("Storage", "large files")
def test_a_large_sparse_file_comes_and_goes(volume: modal.Volume, tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(256 << 20)
        file.seek(100 << 20)
        file.write(b"in the middle")
    with volume.batch_upload() as batch:
        batch.put_file(tmp_path / "sparse", "/sparse")
    size = 0
    for chunk in volume.read_file("sparse"):
        if size <= 100 << 20 < size + len(chunk):
            assert chunk[(100 << 20) - size :].startswith(b"in the middle")
        size += len(chunk)
    assert size == 256 << 20
