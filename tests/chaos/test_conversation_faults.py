"""Conversations while calls to AWS fail in every way: what was told as kept is there, once."""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.chaos.faults import CANCELED
from tests.web.test_stored_contract import TALK, item, response_of, talk_of
from web.stored import StoredKey
from web.stored_errors import ConversationGone, ConversationLocked, ResponsesUnavailable
from web.stored_table import LEASE_SECONDS, ResponsesInTable

if TYPE_CHECKING:
    from tests.chaos.conftest import Faulty
    from tests.web.doubles import HandClock

pytestmark = pytest.mark.slow

QUICK = ["ProvisionedThroughputExceededException", "InternalServerError", "reset", "lost", "cut", *CANCELED]
TURNS = 12


@pytest.mark.parametrize("seed", range(3))
async def test_turns_of_three_containers_that_fail_at_random_are_kept_whole_or_not_at_all(
    faulty: Faulty, clock: HandClock, seed: int
) -> None:
    chance = random.Random(seed)
    stores = [ResponsesInTable(faulty.state.table, faulty.state.bucket, clock=clock) for _ in range(3)]
    await stores[0].create(talk_of(items=()))
    for number, how in enumerate(QUICK):
        operation = "TransactWriteItems" if how in CANCELED else ""
        faulty.proxy.plan(how, operation, times=None, share=0.06, seed=seed * 100 + number)
    told: list[str] = []
    unknown: set[str] = set()

    async def turns(store: ResponsesInTable, who: int) -> None:
        for number in range(TURNS):
            text, turn = f"{who}-{number}" + "x" * chance.choice([0, 0, 70_000]), secrets.token_hex(8)
            try:
                claimed = await store.claim(TALK, turn)
                assert claimed is not None
            except (ConversationLocked, ResponsesUnavailable):
                clock.advance(LEASE_SECONDS / 8)  # a claim whose answer never came ends by itself
                continue
            await asyncio.sleep(chance.random() / 100)
            kept = replace(response_of(clock, expires_at=clock.time() + 10**9), key=_key(text))
            try:
                await store.settle(claimed.with_items((*claimed.items, item(text))), response=kept)
            except ConversationGone:
                assert await _eventually(store, text) is None
            except ResponsesUnavailable:
                unknown.add(text)
            else:
                told.append(text)

    await asyncio.gather(*(turns(store, who) for who, store in enumerate(stores)))
    faulty.proxy.clear()
    found = await stores[0].conversation(TALK)
    assert found is not None
    said = [one["content"][0]["text"] for one in found.items]
    assert len(said) == len(set(said)), "nothing is doubled"
    assert {text for text in said if text not in unknown} == set(told), "what was told is there, and nothing else"
    for who in "012":
        numbers = [int(text.rstrip("x").partition("-")[2]) for text in said if text.startswith(who)]
        assert numbers == sorted(numbers)
    assert told
    for text in {*told, *unknown}:
        assert (await stores[1].load(_key(text)) is not None) == (text in said), "with its response, or without both"


def _key(text: str) -> StoredKey:
    return StoredKey("key:1", text[:8])


async def _eventually(store: ResponsesInTable, text: str) -> object:
    """What is stored, once the table answers."""
    while True:
        try:
            return await store.load(_key(text))
        except ResponsesUnavailable:
            continue
