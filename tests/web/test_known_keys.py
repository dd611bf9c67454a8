"""What one container knows of the table's keys: when the table is asked, and what holds while it is down."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.access import KeyTerms
from infra.aws import StateUnavailable
from infra.key_records import KeyRecord, made_secret, new_key
from infra.key_store import KeysInMemory, changed
from tests.web.conftest import until
from tests.web.doubles import HandClock
from web import known_keys
from web.key_errors import KeysUnavailable
from web.known_keys import KnownKeys


class Watched(KeysInMemory):
    """Counts what is asked. `down`: it cannot be reached; `held`: it does not answer until that is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = self.noted = self.at_once = self.most_at_once = 0
        self.down = False
        self.held: asyncio.Event | None = None

    async def find(self, fingerprint: str) -> KeyRecord | None:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            found = await super().find(fingerprint)
            if self.held is not None:
                await self.held.wait()
            if self.down:
                raise StateUnavailable("down")
            return found
        finally:
            self.at_once -= 1

    async def used(self, key_id: str, *, at: float) -> None:
        self.noted += 1
        if self.down:
            raise StateUnavailable("down")
        await super().used(key_id, at=at)


@pytest.fixture
def store() -> Watched:
    return Watched()


@pytest.fixture
def known(store: Watched, clock: HandClock) -> KnownKeys:
    return KnownKeys(store, clock=clock)


async def made(store: Watched, clock: HandClock, **terms: Any) -> tuple[KeyRecord, str]:
    record, secret = new_key(KeyTerms(name="k", **terms), labels={}, now=clock.time())
    await store.create(record)
    return record, secret


async def settled() -> None:
    """Whatever can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_key_is_its_caller_under_a_name_that_outlives_its_secret(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    terms: Any = {"scopes": ("admin",), "models": ("m",), "rate_limit_per_minute": 3, "tokens_per_minute": 4,
                  "monthly_budget": 5.0}  # fmt: skip
    record, secret = await made(store, clock, **terms)
    caller = await known.find(secret)
    assert caller is not None
    assert (caller.identity, caller.name, caller.scopes, caller.models) == (f"key:{record.id}", "k", {"admin"}, {"m"})
    assert (caller.requests_per_minute, caller.tokens_per_minute, caller.monthly_budget) == (3, 4, 5.0)
    another = ""

    def rotate(was: KeyRecord) -> KeyRecord:
        nonlocal another
        record, another = was.rotated(clock.time(), grace=0)
        return record

    await changed(store, record.id, rotate)
    rotated = await known.find(another)
    assert rotated is not None
    assert rotated.identity == caller.identity


async def test_a_key_in_use_is_asked_about_once_in_so_many_seconds_and_nobody_waits_for_it(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    assert await known.find(secret)
    store.held = asyncio.Event()
    for _ in range(int(known_keys.VALID_SECONDS * 10) - 1):
        clock.advance(0.1)
        assert await known.find(secret), "without the table's word, within its time"
        await settled()
    assert store.asked == 2
    store.held.set()
    await settled()
    store.held = None
    for _ in range(600):
        clock.advance(0.1)
        assert await known.find(secret)
        await settled()
    assert store.asked <= 2 + 60 / known_keys.REFRESH_SECONDS + 1
    assert store.noted == 1, "that it is used is noted by the hour"
    clock.advance(known_keys.USED_SECONDS)
    assert await known.find(secret)
    await settled()
    assert store.noted == 2


async def test_a_revoked_key_ends_within_ten_seconds_however_busy_it_is(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    for busy in (0.25, 20.0):
        record, secret = await made(store, clock)
        assert await known.find(secret)
        clock.advance(1.0)
        assert await known.find(secret)
        await changed(store, record.id, lambda was: was.revoked(clock.time()))
        waited = 0.0
        while await known.find(secret):
            assert waited < 10.0
            clock.advance(busy)
            waited += busy
            await settled()


async def test_a_key_ends_to_the_second(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    _, secret = await made(store, clock, expires_at=datetime.fromtimestamp(clock.time() + 5, UTC))
    assert await known.find(secret)
    clock.advance(4.9)
    assert await known.find(secret)
    clock.advance(0.1)
    assert await known.find(secret) is None
    assert store.asked == 1


async def test_what_is_changed_here_counts_here_at_once(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    record, secret = await made(store, clock)
    assert await known.find(secret)
    known.forget(await changed(store, record.id, lambda was: was.revoked(clock.time())))
    assert await known.find(secret) is None


async def test_an_answer_from_before_a_change_is_not_kept(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    record, secret = await made(store, clock)
    assert await known.find(secret)
    clock.advance(known_keys.REFRESH_SECONDS)
    store.held = asyncio.Event()
    assert await known.find(secret)
    await settled()
    clock.advance(known_keys.VALID_SECONDS)
    waiting = asyncio.create_task(known.find(secret))
    await settled()
    known.forget(await changed(store, record.id, lambda was: was.revoked(clock.time())))
    store.held.set()
    assert await waiting is None
    assert await known.find(secret) is None


async def test_many_who_bring_one_key_ask_once(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    _, secret = await made(store, clock)
    assert all(await asyncio.gather(*(known.find(secret) for _ in range(500))))
    assert store.asked == 1


async def test_who_leaves_while_the_table_is_asked_takes_nobody_elses_answer(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    store.held = asyncio.Event()
    leaving, staying = (asyncio.create_task(known.find(secret)) for _ in range(2))
    await settled()
    leaving.cancel()
    await settled()
    store.held.set()
    assert await staying is not None
    assert store.asked == 1


async def test_what_is_no_key_is_asked_about_once_in_its_time(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    wrong = made_secret()
    for _ in range(50):
        assert await known.find(wrong) is None
    assert store.asked == 1
    clock.advance(known_keys.VALID_SECONDS)
    assert await known.find(wrong) is None
    assert store.asked == 2
    for other in ("sk-" + "x" * 46, "", wrong[:-1], "none"):
        assert await known.find(other) is None
    assert store.asked == 2, "what has no checksum cannot be one"


async def test_a_flood_of_wrong_keys_fills_no_memory(
    store: Watched, known: KnownKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MOST_UNKNOWN", 50)
    for _ in range(200):
        assert await known.find(made_secret()) is None
    assert len(known._unknown) == 50
    assert not known._asking


async def test_so_many_keys_are_known_the_last_used_ones(
    store: Watched, known: KnownKeys, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_keys, "MOST_KEYS", 2)
    first, second, third = [(await made(store, clock))[1] for _ in range(3)]
    for secret in (first, second, first, third):
        assert await known.find(secret)
    assert store.asked == 3
    assert await known.find(first)
    assert store.asked == 3
    assert await known.find(second)
    assert store.asked == 4


async def test_a_flood_of_wrong_keys_leaves_the_table_and_known_keys_alone(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    assert await known.find(secret)
    store.held = asyncio.Event()
    flood = [asyncio.create_task(known.find(made_secret())) for _ in range(1000)]
    await settled()
    assert store.most_at_once == known_keys.STRANGERS_AT_ONCE
    refused = [task for task in flood if task.done()]
    assert len(refused) == 1000 - known_keys.MOST_STRANGERS
    for task in refused:
        assert isinstance(task.exception(), KeysUnavailable)
    clock.advance(known_keys.REFRESH_SECONDS)
    asked = store.asked
    assert await known.find(secret)
    await settled()
    assert store.asked == asked + 1, "a known key is asked about past the strangers"
    store.held.set()
    await asyncio.wait(flood)
    await until(lambda: not known._asking, seconds=20)
    assert await known.find(made_secret()) is None, "there is room again"


# While the table is down.


async def test_a_known_key_goes_on_while_the_table_is_down_for_a_stated_time(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    assert await known.find(secret)
    store.down = True
    for _ in range(int(known_keys.STALE_SECONDS / 5) - 1):
        clock.advance(5)
        assert await known.find(secret)
        await settled()
    clock.advance(10)
    with pytest.raises(KeysUnavailable):
        await known.find(secret)
    store.down = False
    assert await known.find(secret)


async def test_a_key_that_nobody_knows_is_neither_taken_nor_refused(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    store.down = True
    for key in (secret, made_secret()):
        with pytest.raises(KeysUnavailable):
            await known.find(key)
    assert await known.find("sk-what-no-table-can-have") is None
    store.down = False
    assert await known.find(secret)


async def test_a_key_that_was_known_to_be_revoked_never_comes_back(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    record, secret = await made(store, clock)
    assert await known.find(secret)
    await changed(store, record.id, lambda was: was.revoked(clock.time()))
    clock.advance(known_keys.VALID_SECONDS)
    assert await known.find(secret) is None
    store.down = True
    for _ in range(20):
        clock.advance(60)
        with pytest.raises(KeysUnavailable):
            await known.find(secret)


async def test_once_the_table_is_back_no_key_lives_on_what_it_said_before(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    (one, first), (_, second) = await made(store, clock), await made(store, clock)
    assert await known.find(first) and await known.find(second)
    store.down = True
    clock.advance(known_keys.VALID_SECONDS)
    assert await known.find(second)
    await changed(store, one.id, lambda was: was.revoked(clock.time()))
    store.down = False
    clock.advance(known_keys.RETRY_SECONDS)
    assert await known.find(second)
    await settled()
    assert await known.find(first) is None


async def test_while_the_table_hangs_known_keys_wait_once_and_then_no_more(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    assert await known.find(secret)
    store.held = asyncio.Event()
    clock.advance(known_keys.VALID_SECONDS)
    waiting = asyncio.create_task(known.find(secret))
    await settled()
    assert not waiting.done()
    clock.advance(known_keys.PATIENCE_SECONDS)
    assert await waiting
    for _ in range(20):
        clock.advance(1)
        assert await known.find(secret)  # the clock stands still: whoever waited would do so for ever
    assert store.asked == 2
    store.held.set()


async def test_who_is_not_known_waits_longer_for_the_table_and_is_then_told_to_try_again(
    store: Watched, known: KnownKeys, clock: HandClock
) -> None:
    _, secret = await made(store, clock)
    store.held = asyncio.Event()
    first, second = (asyncio.create_task(known.find(secret)) for _ in range(2))
    await settled()
    clock.advance(known_keys.STRANGERS_PATIENCE_SECONDS - 0.1)
    await settled()
    assert not first.done()
    clock.advance(0.1)
    for waiting in (first, second):
        with pytest.raises(KeysUnavailable):
            await waiting
    store.held.set()
    await settled()
    assert await known.find(secret)


async def test_a_key_that_could_not_be_noted_as_used_works(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    _, secret = await made(store, clock)

    async def fails(key_id: str, *, at: float) -> None:
        raise StateUnavailable("down")

    store.used = fails  # type: ignore[method-assign]
    assert await known.find(secret)
    await settled()
    assert await known.find(secret)


async def test_closing_ends_what_is_under_way(store: Watched, known: KnownKeys, clock: HandClock) -> None:
    _, secret = await made(store, clock)
    store.held = asyncio.Event()
    waiting = asyncio.create_task(known.find(secret))
    await settled()
    await known.close()
    assert (await asyncio.wait({waiting}, timeout=20))[0]
    assert not known._asking
    assert store.at_once == 0
