"""Parts of the application that are made when they are first asked for."""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest

from web.lazily import Lazily
from web.record import Record, current, recorded

if TYPE_CHECKING:
    from starlette.types import ASGIApp

SCOPE: dict[str, Any] = {"type": "http"}


class Maker:
    """`broken`: how often it fails first."""

    def __init__(self, *, broken: int = 0) -> None:
        self.made = 0
        self.broken = broken
        self.served = 0
        self.begun, self.may = threading.Event(), threading.Event()

    def __call__(self) -> ASGIApp:
        self.made += 1
        self.begun.set()
        assert self.may.wait(20)
        if self.made <= self.broken:
            raise ImportError("nothing there")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.served += 1

        return app


async def ask(app: ASGIApp) -> None:
    async with asyncio.timeout(20):
        await app(SCOPE, _never, _never)


async def _never(*_: Any) -> Any:
    raise AssertionError


async def test_it_is_made_once_whoever_asks_while_the_loop_serves_others_and_one_who_leaves_ends_nothing() -> None:
    maker = Maker()
    lazy = Lazily(maker)
    first, second = asyncio.create_task(ask(lazy)), asyncio.create_task(ask(lazy))
    assert await asyncio.to_thread(maker.begun.wait, 20)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    maker.may.set()
    await second
    await ask(lazy)
    assert (maker.made, maker.served) == (1, 2)


async def test_what_could_not_be_made_is_told_and_tried_again() -> None:
    maker = Maker(broken=1)
    maker.may.set()
    lazy = Lazily(maker)
    with pytest.raises(ImportError):
        await ask(lazy)
    await ask(lazy)
    assert (maker.made, maker.served) == (2, 1)


async def test_it_can_be_made_before() -> None:
    maker = Maker()
    maker.may.set()
    lazy = Lazily(maker)
    lazy.make()
    lazy.make()
    await ask(lazy)
    assert (maker.made, maker.served) == (1, 1)


async def test_it_is_made_apart_from_the_request_that_asks_and_not_from_what_is_around_the_application() -> None:
    around: ContextVar[str] = ContextVar("around", default="nothing")
    around.set("a container")
    seen: list[tuple[str, Record | None]] = []

    def make() -> ASGIApp:
        seen.append((around.get(), current.get()))
        return _nothing

    with recorded(Record(request_id="req_1")):
        await ask(Lazily(make))
    assert seen == [("a container", None)]


async def _nothing(*_: Any) -> None:
    return None
