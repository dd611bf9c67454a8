"""What keeps API keys, beside the configuration: what it must do, and the one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.key_records import KeyRecord

TRIES = 8
"""How often a change is made anew that another one came before."""


class KeyChanged(Exception):
    """The key is not what it was when it was read: somebody else changed it."""


class NoSuchKey(Exception):
    """There is no key of this id."""


class KeyIsRevoked(Exception):
    """And stays so: nothing of it can be changed."""


class KeyStore(Protocol):
    """Every method raises StateUnavailable where what keeps the keys cannot be reached."""

    async def find(self, fingerprint: str) -> KeyRecord | None:
        """The key that has such a secret, or had it and may not be told to have it no longer. `last_used_at` may be
        left out."""

    async def get(self, key_id: str) -> KeyRecord | None: ...

    async def page(self, *, after: str | None, limit: int) -> list[KeyRecord]:
        """The keys, the newest first: at most `limit`, those that follow the id `after`, whether there is one of it."""

    async def create(self, record: KeyRecord) -> None: ...

    async def replace(self, record: KeyRecord, *, was: KeyRecord) -> None:
        """Raises KeyChanged unless it is what it was: then nothing is written."""

    async def used(self, key_id: str, *, at: float) -> None:
        """Note that it was used then."""


async def changed(store: KeyStore, key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
    """The key after `change`, which may be asked several times. Raises NoSuchKey, KeyIsRevoked, KeyChanged, and what
    `change` raises."""
    for _ in range(TRIES):
        was = await store.get(key_id)
        if was is None:
            raise NoSuchKey(key_id)
        if was.revoked_at is not None:
            raise KeyIsRevoked(key_id)
        record = change(was)
        try:
            await store.replace(record, was=was)
        except KeyChanged:
            continue
        return record
    raise KeyChanged(key_id)


class KeysInMemory:
    """They end with this process, and no other process sees them. For one thread."""

    def __init__(self) -> None:
        self._kept: dict[str, KeyRecord] = {}

    async def find(self, fingerprint: str) -> KeyRecord | None:
        for record in self._kept.values():
            if record.revoked_at is None and fingerprint in (record.key, record.former):
                return record
        return None

    async def get(self, key_id: str) -> KeyRecord | None:
        return self._kept.get(key_id)

    async def page(self, *, after: str | None, limit: int) -> list[KeyRecord]:
        ids = sorted((key_id for key_id in self._kept if after is None or key_id < after), reverse=True)
        return [self._kept[key_id] for key_id in ids[:limit]]

    async def create(self, record: KeyRecord) -> None:
        self._kept[record.id] = record

    async def replace(self, record: KeyRecord, *, was: KeyRecord) -> None:
        kept = self._kept.get(record.id)
        if kept is None or kept.version != was.version:
            raise KeyChanged(record.id)
        self._kept[record.id] = record.model_copy(update={"last_used_at": kept.last_used_at})

    async def used(self, key_id: str, *, at: float) -> None:
        if (kept := self._kept.get(key_id)) is not None:
            self._kept[key_id] = kept.model_copy(update={"last_used_at": at})
