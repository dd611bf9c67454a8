"""Batches in this process's memory: they end with it, and no other process sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.batches import BatchConflict, Storage
from web.file_errors import TooManyBatches
from web.file_store import FilesInMemory
from web.objects import ObjectsInMemory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web.batches import Batch


class BatchesInMemory:
    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Batch] = {}

    async def create(self, batch: Batch, *, most: int) -> None:
        if sum(one.owner == batch.owner and one.unfinished for one in self._kept.values()) >= most:
            raise TooManyBatches(most)
        self._kept[batch.owner, batch.id] = batch

    async def load(self, owner: str, batch_id: str) -> Batch | None:
        return self._kept.get((owner, batch_id))

    async def save(self, batch: Batch) -> None:
        kept = self._kept.get((batch.owner, batch.id))
        if kept is None or kept.version != batch.version - 1:
            raise BatchConflict
        self._kept[batch.owner, batch.id] = batch

    async def end(self, batch: Batch) -> None:
        await self.save(batch)

    async def listed(self, owner: str, *, after: str | None, limit: int) -> Sequence[Batch]:
        mine = [one for one in self._kept.values() if one.owner == owner and (after is None or one.id < after)]
        return sorted(mine, key=lambda one: one.id, reverse=True)[:limit]

    async def due(self, *, before: float, limit: int) -> Sequence[Batch]:
        found = [one for one in self._kept.values() if not one.swept and one.leased_until <= before]
        return sorted(found, key=lambda one: one.leased_until)[:limit]


def in_memory() -> Storage:
    """All of it."""
    return Storage(files=FilesInMemory(), batches=BatchesInMemory(), objects=ObjectsInMemory())
