"""Several things at once, but not too many."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def for_each(items: Iterable[Item], do: Callable[[Item], Awaitable[Answer]], *, at_once: int) -> list[Answer]:
    """What `do` comes to for each item. Raises the first item's error that failed, once all have ended."""
    places = asyncio.Semaphore(at_once)

    async def one(item: Item) -> Answer:
        async with places:
            return await do(item)

    outcomes = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    answers: list[Answer] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        answers.append(outcome)
    return answers
