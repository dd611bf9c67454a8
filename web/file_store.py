"""Records of files in this process's memory: they end with it, and no other process sees them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from web.file_errors import FileNotFound, StorageFull

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web.files import File


class FilesInMemory:
    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], File] = {}
        self._due: dict[tuple[str, str], float] = {}

    async def begin(self, file: File, *, until: float) -> None:
        kept = self._kept.get((file.owner, file.id))
        if kept is None or kept.state == "uploading":
            self._kept[file.owner, file.id] = file
            self._due[file.owner, file.id] = until

    async def finish(self, file: File, *, most: int | None = None) -> None:
        key = file.owner, file.id
        before = self._kept.get(key)
        if before is not None and before.state == "deleted":
            raise FileNotFound(file.id)
        if before is not None and before.state == "ready":
            return
        total = sum(one.size for one in self._kept.values() if one.owner == file.owner and one.state == "ready")
        if most is not None and total + file.size > most:
            raise StorageFull(most)
        self._kept[key] = file
        self._due.pop(key, None)
        if file.expires_at is not None:
            self._due[key] = file.expires_at

    async def load(self, owner: str, file_id: str) -> File | None:
        return self._kept.get((owner, file_id))

    async def listed(
        self, owner: str, *, after: str | None = None, limit: int | None = None, newest_first: bool = True
    ) -> Sequence[File]:
        mine = sorted((f for f in self._kept.values() if f.owner == owner), key=lambda f: f.id, reverse=newest_first)
        if after is not None:
            mine = [file for file in mine if (file.id < after if newest_first else file.id > after)]
        return mine[:limit]

    async def delete(self, file: File, *, until: float) -> None:
        key = file.owner, file.id
        kept = self._kept.get(key)
        if kept is not None and kept.state == "ready":
            self._kept[key] = replace(kept, state="deleted")
            self._due[key] = until

    async def forget(self, file: File) -> None:
        key = file.owner, file.id
        kept = self._kept.get(key)
        if kept is not None and kept.state != "ready":
            del self._kept[key]
            self._due.pop(key, None)

    async def due(self, *, before: float, limit: int) -> Sequence[File]:
        found = sorted((at, key) for key, at in self._due.items() if at <= before)
        return [self._kept[key] for _, key in found[:limit]]
