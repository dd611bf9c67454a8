"""The keys of the table as one container knows them: what a request's key may do, told without asking the table each
time.

What the table says of a key counts for VALID_SECONDS from when it was asked, so a key that is revoked stops within
that; a key in use is asked about again before that, while requests go on. What is no key counts as that for as long.
While the table cannot be reached, a key that was valid stays so for STALE_SECONDS, and a key that this container does
not know is neither taken nor refused: its caller is told to try again.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.aws import StateUnavailable
from infra.key_records import may_be_kept
from infra.keys import fingerprint
from web.caller import Caller
from web.key_errors import KeysUnavailable

if TYPE_CHECKING:
    from infra.key_records import KeyRecord
    from infra.key_store import KeyStore
    from web.clock import Clock

log = logging.getLogger(__name__)

VALID_SECONDS = 10.0
REFRESH_SECONDS = 8.0
"""When a key in use is asked about again."""
STALE_SECONDS = 900.0
RETRY_SECONDS = 1.0
"""Between two attempts to ask about a key while it is used and the table cannot be reached."""
PATIENCE_SECONDS = 2.0
"""How long a request waits for the table's word on a key that was valid lately…"""
STRANGERS_PATIENCE_SECONDS = 10.0
"""… and on any other: the first one of a container waits for its connection to AWS as well."""
FAILING_SECONDS = 30.0
"""How long after the table could not be reached requests with known keys do not wait for it."""
USED_SECONDS = 3600.0
"""How often it is noted that a key was used."""
MOST_KEYS = 10_000
"""That one container knows at once."""
MOST_UNKNOWN = 10_000
"""Of those that are no keys."""
MOST_STRANGERS = 64
"""Keys that are not known yet, and wait for the table's word, at once…"""
STRANGERS_AT_ONCE = 4
"""… of whom the table is asked about so many at a time; and beside them …"""
KNOWN_AT_ONCE = 8
"""… about so many that are known."""


@dataclass(slots=True)
class Known:
    """A key that the table had. `end`: seconds since the epoch; the others on the monotonic scale."""

    caller: Caller
    end: float
    key_id: str
    asked_at: float
    refresh_at: float
    noted_at: float


class KnownKeys:
    """For one event loop; opens nothing before it is used."""

    def __init__(self, store: KeyStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._known: OrderedDict[str, Known] = OrderedDict()
        """Fingerprint -> key; the one that was used last is last."""
        self._unknown: OrderedDict[str, float] = OrderedDict()
        """Fingerprint -> until when it is taken as no key; the one that was asked about last is last."""
        self._asking: dict[str, asyncio.Task[bool]] = {}
        """Fingerprint -> who asks the table about it, and then says whether it answered."""
        self._noting: set[asyncio.Task[None]] = set()
        self._known_turns = asyncio.Semaphore(KNOWN_AT_ONCE)
        self._stranger_turns = asyncio.Semaphore(STRANGERS_AT_ONCE)
        self._strangers = 0
        self._failed_at = -math.inf

    async def find(self, key: str) -> Caller | None:
        """Whose key it is; None: nobody's. Waits only where the table has to be asked. Raises KeysUnavailable."""
        given = fingerprint(key)
        now = self._clock.monotonic()
        known = self._known.get(given)
        if known is not None:
            self._known.move_to_end(given)
            if now >= known.refresh_at:
                known.refresh_at = now + RETRY_SECONDS
                self._ask(given, known)
            if now < known.asked_at + (STALE_SECONDS if self._is_failing(now) else VALID_SECONDS):
                return self._still(known)
        elif not may_be_kept(key) or self._unknown.get(given, -math.inf) > now:
            return None
        return await self._told(given, known)

    def forget(self, record: KeyRecord) -> None:
        """What was known of a key that was changed here."""
        known = [given for given, known in self._known.items() if known.key_id == record.id]
        for given in (*known, record.key):
            self._known.pop(given, None)
            self._unknown.pop(given, None)
            self._asking.pop(given, None)  # what it brings is from before

    async def close(self) -> None:
        tasks = [*self._asking.values(), *self._noting]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _still(self, known: Known) -> Caller | None:
        return known.caller if self._clock.time() < known.end else None

    def _is_failing(self, now: float) -> bool:
        return now < self._failed_at + FAILING_SECONDS

    async def _told(self, given: str, before: Known | None) -> Caller | None:
        """What the table says; where it does not in time, what it said before."""
        if before is not None and self._clock.monotonic() >= before.asked_at + STALE_SECONDS:
            before = None
        while await self._has_answered(given, before):
            if (known := self._known.get(given)) is not None:
                return self._still(known)
            if given in self._unknown:
                return None
            # The key was changed here while the table was asked: what it said was from before.
        if before is None:
            raise KeysUnavailable
        return self._still(before)

    async def _has_answered(self, given: str, before: Known | None) -> bool:
        asking = self._ask(given, before)
        try:
            async with self._clock.timeout(STRANGERS_PATIENCE_SECONDS if before is None else PATIENCE_SECONDS):
                return await asyncio.shield(asking)
        except TimeoutError:
            if before is not None:  # who is not known may have waited only for others like that
                self._failed_at = self._clock.monotonic()
            return False

    def _ask(self, given: str, known: Known | None) -> asyncio.Task[bool]:
        """Have the table asked about it, by one for all who want to know. Raises KeysUnavailable when too many wait."""
        asking = self._asking.get(given)
        if asking is None:
            if known is None and self._strangers >= MOST_STRANGERS:
                raise KeysUnavailable
            asking = asyncio.create_task(self._answered(given, stranger=known is None), name="key")
            self._asking[given] = asking
            self._strangers += known is None
            asking.add_done_callback(functools.partial(self._asked, given, stranger=known is None))
        return asking

    def _asked(self, given: str, task: asyncio.Task[bool], *, stranger: bool) -> None:
        self._strangers -= stranger
        if self._asking.get(given) is task:
            del self._asking[given]

    async def _answered(self, given: str, *, stranger: bool) -> bool:
        me = asyncio.current_task()
        async with self._stranger_turns if stranger else self._known_turns:
            asked_at = self._clock.monotonic()
            try:
                record = await self._store.find(given)
            except StateUnavailable as error:
                if not self._is_failing(asked_at):
                    log.error("API keys cannot be looked up: %s", error)
                self._failed_at = self._clock.monotonic()
                return False
        self._failed_at = -math.inf
        if self._asking.get(given) is me:
            self._keep(given, record, asked_at)
        return True

    def _keep(self, given: str, record: KeyRecord | None, asked_at: float) -> None:
        before = self._known.pop(given, None)
        self._unknown.pop(given, None)
        end = record.accepted_until(given) if record is not None else 0.0
        if record is None or end <= self._clock.time():
            self._unknown[given] = asked_at + VALID_SECONDS
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)
            return
        noted_at = -math.inf if before is None else before.noted_at
        if noted_at + USED_SECONDS <= asked_at:
            noted_at = asked_at
            self._note(record)
        self._known[given] = Known(
            caller=caller_with(record), end=end, key_id=record.id, asked_at=asked_at,
            refresh_at=asked_at + REFRESH_SECONDS, noted_at=noted_at,
        )  # fmt: skip
        if len(self._known) > MOST_KEYS:
            self._known.popitem(last=False)

    def _note(self, record: KeyRecord) -> None:
        async def note() -> None:
            try:
                await self._store.used(record.id, at=self._clock.time())
            except StateUnavailable as error:
                log.warning("that the API key %s was used is not noted: %s", record.id, error)

        task = asyncio.create_task(note(), name="key used")
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)


def caller_with(record: KeyRecord) -> Caller:
    return Caller(
        identity=identity_of(record.id), name=record.name, scopes=frozenset(record.scopes),
        models=frozenset(record.models) or None, requests_per_minute=record.rate_limit_per_minute,
        tokens_per_minute=record.tokens_per_minute, monthly_budget=record.monthly_budget,
    )  # fmt: skip


def identity_of(key_id: str) -> str:
    """Of a key in the table: it stays when the key is rotated."""
    return f"key:{key_id}"
