"""A Volume's files from outside: listed, read, put, copied, removed. Both versions do the same to the same folder.

They differ in how files come: version 1 uploads them whole, by what is in them (as mounts do), version 2 in blocks.
"""

from __future__ import annotations

import asyncio
import shutil
import stat
from contextlib import contextmanager
from itertools import islice, pairwise
from typing import TYPE_CHECKING, TypeVar

from google.protobuf.empty_pb2 import Empty
from modal_proto import api_pb2

from emulator.protocol.dispatch import exists, invalid, not_found
from emulator.storage.transfers import BLOCK_BYTES, Announced
from emulator.storage.tree import PathError, copy_file
from emulator.storage.volumes import NewFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from emulator.protocol.dispatch import Caller
    from emulator.state import State
    from emulator.storage.content import ContentStore
    from emulator.storage.transfers import Upload
    from emulator.storage.volume_store import VolumeStore
    from emulator.storage.volumes import Entry, VolumeFiles

_LISTED_AT_ONCE = 500
_MODE = 0o644

T = TypeVar("T")


class VolumeFileHandlers:
    """`url` gives the address of a path on the blobs' port."""

    def __init__(
        self,
        state: State,
        store: VolumeStore,
        content: ContentStore,
        url: Callable[[str], str],
    ) -> None:
        self._state = state
        self._store = store
        self._transfers = store.transfers
        self._content = content
        self._url = url

    def _files(self, volume_id: str) -> VolumeFiles:
        if (volume := self._state.volumes.get(volume_id)) is None:
            raise not_found(f"No Volume with ID {volume_id}")
        return self._store.of(volume_id, volume.path)

    # Looking

    async def VolumeListFiles(
        self, request: api_pb2.VolumeListFilesRequest, _: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFilesResponse]:
        async for entries in self._listed(request):
            yield api_pb2.VolumeListFilesResponse(entries=entries)

    async def VolumeListFiles2(
        self, request: api_pb2.VolumeListFiles2Request, _: Caller
    ) -> AsyncIterator[api_pb2.VolumeListFiles2Response]:
        async for entries in self._listed(request):
            yield api_pb2.VolumeListFiles2Response(entries=entries)

    async def _listed(
        self, request: api_pb2.VolumeListFilesRequest | api_pb2.VolumeListFiles2Request
    ) -> AsyncIterator[list[api_pb2.FileEntry]]:
        """A listing, a few hundred at a time: it may be of millions."""
        files = self._files(request.volume_id)
        left = request.max_entries if request.HasField("max_entries") else None
        found = islice(files.entries(request.path, recursive=request.recursive), left)
        while entries := await _done(lambda: list(islice(found, _LISTED_AT_ONCE))):
            yield [_entry(entry) for entry in entries]

    async def VolumeGetFile2(self, request: api_pb2.VolumeGetFile2Request, _: Caller) -> api_pb2.VolumeGetFile2Response:
        """Addresses of a file's blocks. What they give is the file as it is now, whatever takes its place."""
        files = self._files(request.volume_id)
        download, size = await _done(lambda: self._offer(files, request.path))
        start = min(request.start, size)
        end = min(size, start + request.len) if request.len else size
        cuts = [start, *range((start // BLOCK_BYTES + 1) * BLOCK_BYTES, end, BLOCK_BYTES), end]
        ranges = pairwise(cuts) if end > start else ()
        urls = [self._url(f"volumes/downloads/{download}/{first}-{last}") for first, last in ranges]
        return api_pb2.VolumeGetFile2Response(get_urls=urls, size=size, start=start, len=end - start)

    def _offer(self, files: VolumeFiles, path: str) -> tuple[str, int]:
        with files.lock:
            found = files.find(path)
            status = found.stat()
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(f"'{path}' is not a file")
            return self._transfers.offer(found), status.st_size

    # Changing

    async def VolumeRemoveFile(self, request: api_pb2.VolumeRemoveFileRequest, _: Caller) -> Empty:
        return await self._remove(request)

    async def VolumeRemoveFile2(self, request: api_pb2.VolumeRemoveFile2Request, _: Caller) -> Empty:
        return await self._remove(request)

    async def _remove(self, request: api_pb2.VolumeRemoveFileRequest | api_pb2.VolumeRemoveFile2Request) -> Empty:
        files = self._files(request.volume_id)
        await _done(lambda: files.remove(request.path, recursive=request.recursive))
        return Empty()

    async def VolumeCopyFiles(self, request: api_pb2.VolumeCopyFilesRequest, _: Caller) -> Empty:
        return await self._copy(request)

    async def VolumeCopyFiles2(self, request: api_pb2.VolumeCopyFiles2Request, _: Caller) -> Empty:
        return await self._copy(request)

    async def _copy(self, request: api_pb2.VolumeCopyFilesRequest | api_pb2.VolumeCopyFiles2Request) -> Empty:
        files = self._files(request.volume_id)
        await _done(lambda: files.copy(list(request.src_paths), request.dst_path, recursive=request.recursive))
        return Empty()

    async def VolumePutFiles(self, request: api_pb2.VolumePutFilesRequest, _: Caller) -> Empty:
        files = self._files(request.volume_id)
        await _done(lambda: self._put(files, request))
        return Empty()

    def _put(self, files: VolumeFiles, request: api_pb2.VolumePutFilesRequest) -> None:
        overwrite = not request.disallow_overwrite_existing_files
        files.check([file.filename for file in request.files], overwrite=overwrite)
        made: list[NewFile] = []
        try:
            for file in request.files:
                if not self._content.has(file.sha256_hex):
                    raise PathError(f"'{file.filename}' was never uploaded")
                made.append(NewFile(files.temporary(), file.filename, file.mode or _MODE))
                copy_file(self._content.path(file.sha256_hex), made[-1].source)
            files.put(made, overwrite=overwrite)
        finally:
            for copied in made:
                copied.source.unlink(missing_ok=True)

    async def VolumePutFiles2(
        self, request: api_pb2.VolumePutFiles2Request, _: Caller
    ) -> api_pb2.VolumePutFiles2Response:
        """Asked twice: for the addresses of blocks that are missing, and for the files, when those have come."""
        files = self._files(request.volume_id)
        announced = tuple(_announced(file) for file in request.files)
        overwrite = not request.disallow_overwrite_existing_files
        upload = self._begun(request, announced)
        if upload is None:
            await _done(lambda: files.check([file.path for file in announced], overwrite=overwrite))
            upload = self._transfers.begin(announced)
            self._check_room(upload)
        if upload.failure is not None:
            raise upload.failure
        if not (missing := upload.missing()):
            if not upload.done:
                await _done(lambda: upload.finish(files, overwrite=overwrite))
            return api_pb2.VolumePutFiles2Response()
        return api_pb2.VolumePutFiles2Response(
            missing_blocks=[
                api_pb2.VolumePutFiles2Response.MissingBlock(
                    file_index=file,
                    block_index=block,
                    put_url=self._url(f"volumes/uploads/{upload.upload_id}/{file}/{block}"),
                )
                for file, block in missing
            ]
        )

    def _begun(self, request: api_pb2.VolumePutFiles2Request, announced: tuple[Announced, ...]) -> Upload | None:
        """The upload whose blocks a request says that it has brought."""
        brought = (block.put_response for file in request.files for block in file.blocks if block.put_response)
        token = next(brought, b"").decode(errors="replace")
        upload = self._transfers.upload(token) if token else None
        return upload if upload is not None and upload.files == announced else None

    def _check_room(self, upload: Upload) -> None:
        """What can not fit is told before it comes. `OSError`, as the system would say it."""
        free = shutil.disk_usage(upload.folder).free
        if upload.most_bytes() > free:
            raise OSError(28, f"No space left on device: the files take more than the {free:,} bytes that are free")


def _announced(file: api_pb2.VolumePutFiles2Request.File) -> Announced:
    if len(file.blocks) != -(-file.size // BLOCK_BYTES):
        raise invalid(f"'{file.path}' has {file.size} bytes, which are not {len(file.blocks)} blocks of 8 MiB")
    blocks = tuple(block.contents_sha256 for block in file.blocks)
    return Announced(file.path, file.size, file.mode if file.HasField("mode") else _MODE, blocks)


def _entry(entry: Entry) -> api_pb2.FileEntry:
    kinds = {
        stat.S_IFREG: api_pb2.FileEntry.FILE,
        stat.S_IFDIR: api_pb2.FileEntry.DIRECTORY,
        stat.S_IFLNK: api_pb2.FileEntry.SYMLINK,
        stat.S_IFIFO: api_pb2.FileEntry.FIFO,
        stat.S_IFSOCK: api_pb2.FileEntry.SOCKET,
    }
    kind = kinds.get(stat.S_IFMT(entry.mode), api_pb2.FileEntry.UNSPECIFIED)
    return api_pb2.FileEntry(path=entry.path, type=kind, mtime=int(entry.mtime), size=entry.size)


async def _done(work: Callable[[], T]) -> T:
    """Do something with files off the loop, and tell what goes wrong in the client's errors."""
    with told():
        return await asyncio.to_thread(work)


@contextmanager
def told() -> Iterator[None]:
    """Errors of files as the client is told them. The rest of `OSError` is the disk's, which the dispatcher tells."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found(str(error)) from error
    except FileExistsError as error:
        raise exists(str(error)) from error
    except (PathError, IsADirectoryError, NotADirectoryError) as error:
        raise invalid(str(error)) from error
