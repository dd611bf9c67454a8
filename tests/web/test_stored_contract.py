"""What every store of responses and conversations must do. Another store joins by another parameter of the fixture."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.aws_kit import StateOfTest
from tests.web.doubles import HandClock
from web import stored_table
from web.stored import Conversation, ResponseStore, StoredKey, StoredResponse
from web.stored_errors import ConversationGone, ConversationLocked
from web.stored_memory import ResponsesInMemory
from web.stored_table import ResponsesInTable

TTL = 100.0
KEY = StoredKey("key:1", "resp_1")
TALK = StoredKey("key:1", "conv_1")


@pytest.fixture(params=["memory", "table", pytest.param("bucket", marks=pytest.mark.slow)])
def store(request: pytest.FixtureRequest, clock: HandClock, monkeypatch: pytest.MonkeyPatch) -> ResponseStore:
    if request.param == "memory":
        return ResponsesInMemory(clock=clock)
    if request.param == "bucket":
        monkeypatch.setattr(stored_table, "INLINE_BYTES", 1)
    state: StateOfTest = request.getfixturevalue("aws_state")
    return ResponsesInTable(state.table, state.bucket, clock=clock)


def item(text: str) -> dict[str, Any]:
    return {"id": f"msg_{text}", "type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def response_of(clock: HandClock, **more: Any) -> StoredResponse:
    given = {
        "key": KEY, "response": {"id": "resp_1", "output": [], "temperature": 0.5}, "items": (item("ä\n"),),
        "affinity": "a", "expires_at": clock.time() + TTL,
    }  # fmt: skip
    return StoredResponse(**given | more)


def talk_of(**more: Any) -> Conversation:
    return Conversation(**{"key": TALK, "created_at": 5, "metadata": {"": "x"}, "items": (item("a"),)} | more)


async def test_a_response_is_there_as_it_was_for_its_owner(store: ResponseStore, clock: HandClock) -> None:
    await store.check()
    assert await store.load(KEY) is None
    kept = response_of(clock)
    await store.keep(kept)
    await store.keep(kept)
    assert await store.load(KEY) == kept
    assert await store.load(StoredKey("key:2", KEY.id)) is None
    assert not await store.delete(StoredKey("key:2", KEY.id))
    assert await store.delete(KEY)
    assert await store.load(KEY) is None
    assert not await store.delete(KEY)


async def test_what_has_expired_is_gone(store: ResponseStore, clock: HandClock) -> None:
    await store.keep(response_of(clock))
    await store.create(talk_of(expires_at=clock.time() + TTL))
    clock.advance(TTL - 0.001)
    assert await store.load(KEY) is not None
    assert await store.conversation(TALK) is not None
    clock.advance(0.001)
    assert await store.load(KEY) is None
    assert await store.conversation(TALK) is None
    assert await store.claim(TALK, "t") is None
    assert await store.describe(TALK, {}) is None
    assert not await store.delete(KEY)
    assert not await store.remove(TALK)


async def test_a_conversation_is_there_until_it_is_removed(store: ResponseStore, clock: HandClock) -> None:
    assert await store.conversation(TALK) is None
    assert await store.claim(TALK, "t") is None
    made = talk_of()
    await store.create(made)
    clock.advance(10**8)
    assert await store.conversation(TALK) == made
    assert await store.conversation(TALK, with_items=False) == made.with_items(())
    assert await store.conversation(StoredKey("key:2", TALK.id)) is None
    assert await store.remove(TALK)
    assert await store.conversation(TALK) is None
    assert not await store.remove(TALK)


async def test_a_turn_keeps_items_and_response_together_and_frees_the_conversation(
    store: ResponseStore, clock: HandClock
) -> None:
    await store.create(talk_of())
    claimed = await store.claim(TALK, "t")
    assert claimed == talk_of(turn="t")
    both = (*claimed.items, item("b"))
    kept = response_of(clock)
    await store.settle(claimed.with_items(both), response=kept)
    assert await store.load(KEY) == kept
    assert await store.conversation(TALK) == talk_of(items=both)
    again = await store.claim(TALK, "u")
    assert again is not None
    await store.settle(again.with_items(()))
    assert await store.conversation(TALK) == talk_of(items=())


async def test_of_two_who_claim_at_once_one_is_told_to_wait(store: ResponseStore) -> None:
    await store.create(talk_of())
    outcomes = await asyncio.gather(*(store.claim(TALK, turn) for turn in "ab"), return_exceptions=True)
    assert [isinstance(outcome, ConversationLocked) for outcome in outcomes].count(True) == 1
    holder = next(outcome.turn for outcome in outcomes if isinstance(outcome, Conversation))
    assert holder is not None
    assert await store.claim(TALK, holder) is not None, "the answer to the first claim may have been lost"
    await store.release(TALK, "c")
    with pytest.raises(ConversationLocked):
        await store.claim(TALK, "c")
    await store.release(TALK, holder)
    await store.release(TALK, holder)
    assert await store.claim(TALK, "c") is not None


@pytest.mark.parametrize("fate", ["removed", "made anew", "settled", "another's"])
async def test_who_does_not_hold_a_conversation_any_more_changes_nothing(
    store: ResponseStore, clock: HandClock, fate: str
) -> None:
    await store.create(talk_of())
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    match fate:
        case "removed":
            await store.remove(TALK)
        case "made anew":
            await store.remove(TALK)
            await store.create(talk_of(items=()))
        case "settled":
            await store.settle(claimed.with_items(()))
        case _:
            await store.release(TALK, "t")
            await store.claim(TALK, "u")
    before = await store.conversation(TALK)
    with pytest.raises(ConversationGone):
        await store.settle(claimed, response=response_of(clock))
    await store.renew(TALK, "t")
    await store.release(TALK, "t")
    assert await store.conversation(TALK) == before
    assert await store.load(KEY) is None


async def test_a_description_changes_under_a_turn_and_outlasts_it(store: ResponseStore) -> None:
    assert await store.describe(TALK, {}) is None
    await store.create(talk_of())
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    described = await store.describe(TALK, {"a": "b"})
    assert described is not None
    assert (described.metadata, described.created_at, described.items) == ({"a": "b"}, 5, ())
    await store.settle(claimed)
    assert await store.conversation(TALK) == talk_of(metadata={"a": "b"})


async def test_a_turn_puts_off_the_end(store: ResponseStore, clock: HandClock) -> None:
    await store.create(talk_of(expires_at=clock.time() + TTL))
    claimed = await store.claim(TALK, "t")
    assert claimed is not None
    await store.settle(talk_of(turn="t", place=claimed.place, expires_at=clock.time() + 2 * TTL))
    clock.advance(TTL)
    assert await store.conversation(TALK) is not None
    clock.advance(TTL)
    assert await store.conversation(TALK) is None


async def test_memory_has_an_end_and_what_was_kept_first_goes_first(clock: HandClock) -> None:
    store = ResponsesInMemory(clock=clock, most_bytes=3000)
    keys = [StoredKey("key:1", f"resp_{n}") for n in range(5)]
    for key in keys:
        await store.keep(response_of(clock, key=key, affinity="x" * 900))
    assert [await store.load(key) is not None for key in keys] == [False, False, False, True, True]
