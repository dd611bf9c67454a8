"""A container that is told to stop in the middle of a turn: what was said is kept, whole or marked interrupted."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from infra.table import Item, Table
from tests.web.conftest import until
from tests.web.session_kit import assistant, turn, user
from tests.web.test_draining import GRACE, start  # noqa: F401 - a fixture
from web.session_table import SessionsInTable
from web.sessions import SessionKey

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest
    from tests.web.doubles import HandClock, HandEngine

KEY = SessionKey("public", "s")


class SlowTable(Table):
    """Its puts take until they are let go."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.may_put = threading.Event()
        self.putting = threading.Event()

    async def put(self, item: Item, **more: Any) -> Item | None:
        self.putting.set()
        await asyncio.to_thread(self.may_put.wait, 60)
        return await super().put(item, **more)


async def said(state: StateOfTest, clock: HandClock) -> list[dict[str, object]]:
    """What another container finds."""
    session = await SessionsInTable(state.table, state.bucket, clock=clock).load(KEY)
    assert session is not None
    assert session.turn is None, "the turn was left as if it were under way"
    return session.history()[1:]


@pytest.mark.parametrize("how", ["in time", "too late", "at once"])
async def test_what_was_said_until_then_is_kept(
    start: Any,  # noqa: F811
    hand_engine: HandEngine, clock: HandClock, aws_state: StateOfTest, how: str,
) -> None:  # fmt: skip
    server = start(hand_engine.url, clock, sessions=SessionsInTable(aws_state.table, aws_state.bucket, clock=clock))
    streaming = await server.served.raw(turn("q"), "/chat/completions")
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("begun")
    await streaming.until(b"begun")
    server.uvicorn.handle_exit(signal.SIGTERM, None)
    await until(lambda: server.draining.begun and GRACE in clock.pending())
    match how:
        case "in time":
            await talk.token(" and ended", finish="stop")
            await talk.end()
        case "too late":
            clock.advance(GRACE)
        case "at once":
            server.uvicorn.handle_exit(signal.SIGTERM, None)
    told = (await streaming.rest()).decode()
    await server.ended()
    if how == "in time":
        assert "event: done" in told
        assert await said(aws_state, clock) == [user("q"), assistant("begun and ended")]
    else:
        assert await said(aws_state, clock) == [user("q"), assistant("begun", interrupted=True)]


@pytest.mark.slow
async def test_a_container_does_not_end_before_what_it_writes_is_written(
    start: Any,  # noqa: F811
    hand_engine: HandEngine, clock: HandClock, aws_state: StateOfTest,
) -> None:  # fmt: skip
    table = SlowTable(aws_state.clients, aws_state.name)
    server = start(hand_engine.url, clock, sessions=SessionsInTable(table, aws_state.bucket, clock=clock))
    streaming = await server.served.raw(turn("q"), "/chat/completions")
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("begun")
    await streaming.until(b"begun")
    server.uvicorn.handle_exit(signal.SIGTERM, None)
    await until(lambda: server.draining.begun and GRACE in clock.pending())
    clock.advance(GRACE)
    await until(table.putting.is_set)
    server.uvicorn.handle_exit(signal.SIGTERM, None)
    # Even uvicorn, which cuts what is left after a second, waits for that.
    server.thread.join(2.5)
    assert server.thread.is_alive()
    table.may_put.set()
    await streaming.rest()
    await server.ended()
    assert await said(aws_state, clock) == [user("q"), assistant("begun", interrupted=True)]
