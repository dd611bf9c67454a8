"""The service's own HTTP server, over real sockets: what it offers beside ASGI, and HTTP/1.0."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from functions.http_protocol import Cycle
from tests.web.conftest import running, web_loop
from web.extensions import CONNECTION, connection_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from web.extensions import Connection

__all__ = ["web_loop"]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
REQUEST = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"


class Application:
    """Answers by `answer(connection, send)`, and keeps what it was offered."""

    def __init__(self, answer: Callable[[Connection, Send], Awaitable[None]]) -> None:
        self.answer = answer
        self.scope: Scope = {}
        self.ended = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        self.scope = scope
        connection = connection_of(scope)
        assert connection is not None
        try:
            await self.answer(connection, send)
        finally:
            self.ended.set()


@pytest.fixture
def ask(web_loop: asyncio.AbstractEventLoop) -> Iterator[Any]:
    async def run(application: Application, request: bytes = REQUEST) -> bytes:
        with running(application, web_loop) as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(request)
            answer = await reader.read()
            writer.close()
            return answer

    return run


async def test_what_is_written_now_is_a_chunk_between_those_that_are_sent(ask: Any) -> None:
    async def answer(connection: Connection, send: Send) -> None:
        assert not connection.write_now(b"too early"), "before the response began"
        await send(START)
        assert connection.write_now(b"one ")
        assert connection.write_now(b""), "which is nothing, and not the end"
        await send({"type": "http.response.body", "body": b"two ", "more_body": True})
        assert connection.write_now(b"three ")
        await send({"type": "http.response.body", "body": b"end"})
        assert not connection.write_now(b"too late"), "after it ended"

    told = await ask(Application(answer))
    assert told.endswith(b"\r\n\r\n4\r\none \r\n4\r\ntwo \r\n6\r\nthree \r\n3\r\nend\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("request_line", "headers"),
    [
        (b"GET / HTTP/1.0", []),
        (b"HEAD / HTTP/1.1", []),
        (b"GET / HTTP/1.1", [(b"content-length", b"4")]),
    ],
    ids=["of HTTP/1.0", "to a HEAD", "of a known length"],
)
async def test_nothing_is_written_now_into_a_body_that_is_not_chunked(
    ask: Any, request_line: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    async def answer(connection: Connection, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        assert not connection.write_now(b"chunk")
        await send({"type": "http.response.body", "body": b"body"})

    told = await ask(Application(answer), request_line + b"\r\nHost: test\r\nConnection: close\r\n\r\n")
    assert told.endswith(b"\r\n\r\n" if b"HEAD" in request_line else b"\r\n\r\nbody")


async def test_nothing_is_written_now_while_the_caller_does_not_read(web_loop: asyncio.AbstractEventLoop) -> None:
    async def answer(connection: Connection, send: Send) -> None:
        await send(START)
        written = 0
        while connection.write_now(b"x" * 65536):
            written += 1
            assert written < 1000, "it must not be kept for ever"
        await send({"type": "http.response.body", "body": b"end"})  # waits

    application = Application(answer)
    with running(application, web_loop) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(REQUEST)
        body = await reader.read()
        assert body.endswith(b"3\r\nend\r\n0\r\n\r\n")
        writer.close()


async def test_who_watches_a_connection_is_told_once_that_it_is_lost_and_who_forgot_it_is_not(
    web_loop: asyncio.AbstractEventLoop,
) -> None:
    told: list[str] = []

    async def answer(connection: Connection, send: Send) -> None:
        await send(START)
        lost = asyncio.Event()
        ignored = lambda: told.append("forgotten")  # noqa: E731
        connection.watch(ignored)
        connection.forget(ignored)
        connection.watch(lost.set)
        connection.watch(lambda: told.append("lost"))
        await lost.wait()
        assert not connection.write_now(b"to nobody")
        late = asyncio.Event()
        connection.watch(late.set)
        await late.wait()
        told.append("late")

    application = Application(answer)
    with running(application, web_loop) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(application.ended.wait(), web_loop))
    assert told == ["lost", "late"]


async def test_a_connection_is_watched_although_a_long_body_has_stopped_the_reading(
    web_loop: asyncio.AbstractEventLoop,
) -> None:
    async def answer(connection: Connection, send: Send) -> None:
        await send(START)
        assert isinstance(connection, Cycle)
        connection.flow.pause_reading()  # as under a body of which more than 64 KiB come at once
        lost = asyncio.Event()
        connection.watch(lost.set)
        await lost.wait()

    application = Application(answer)
    with running(application, web_loop) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        ended = asyncio.run_coroutine_threadsafe(application.ended.wait(), web_loop)
        await asyncio.wait_for(asyncio.wrap_future(ended), timeout=30)


async def test_a_request_that_has_ended_holds_nothing_that_holds_it(ask: Any) -> None:
    async def answer(connection: Connection, send: Send) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": b"end"})

    application = Application(answer)
    await ask(application)
    assert CONNECTION not in application.scope["extensions"]
