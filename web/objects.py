"""Where the bytes of files lie: what a keeper of objects must do, and one in this process's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from infra.aws import ObjectMissing

if TYPE_CHECKING:
    from collections.abc import Sequence


class Writer(Protocol):
    """Takes an object as it comes; nobody sees it before `close`."""

    @property
    def size(self) -> int:
        """Bytes written."""

    async def write(self, data: bytes) -> None: ...

    async def close(self) -> None:
        """The object is there, whole, in place of what was there before."""

    async def abort(self) -> None:
        """Leave nothing behind. In place of `close`, or once that has failed."""


class ObjectKeeper(Protocol):
    """Every method may raise StateUnavailable. `infra.objects.Objects` is one in S3."""

    async def put(self, key: str, body: bytes) -> None: ...

    async def read(self, key: str, start: int, length: int) -> bytes:
        """So many bytes from `start` on; fewer at the end, none beyond it. Raises ObjectMissing."""

    async def copy(self, source: str, target: str) -> None:
        """Raises ObjectMissing."""

    async def remove(self, keys: Sequence[str]) -> None:
        """Harmless for those that are not there."""

    def writer(self, key: str) -> Writer: ...


class ObjectsInMemory:
    """They end with this process."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, body: bytes) -> None:
        self.kept[key] = body

    async def read(self, key: str, start: int, length: int) -> bytes:
        return self._get(key)[start : start + length]

    async def copy(self, source: str, target: str) -> None:
        self.kept[target] = self._get(source)

    async def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.kept.pop(key, None)

    def writer(self, key: str) -> Writer:
        return _MemoryWriter(self, key)

    def _get(self, key: str) -> bytes:
        try:
            return self.kept[key]
        except KeyError:
            raise ObjectMissing(key) from None


class _MemoryWriter:
    def __init__(self, objects: ObjectsInMemory, key: str) -> None:
        self._objects = objects
        self._key = key
        self._body = bytearray()

    @property
    def size(self) -> int:
        return len(self._body)

    async def write(self, data: bytes) -> None:
        self._body += data

    async def close(self) -> None:
        self._objects.kept[self._key] = bytes(self._body)

    async def abort(self) -> None:
        self._body.clear()
