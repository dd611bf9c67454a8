"""A caller who reads slowly holds back its own engine and nobody else; what waits for it is bounded, and all there."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import SERVERS, RawResponse, chat, until
from tests.web.doubles import HandClock
from web.clock import RealClock
from web.dialects.openai import parse_chat
from web.dialects.openai_answer import OpenAIStream
from web.dialects.translation import StreamedAnswer
from web.forwarding import MOST_UNWRITTEN, Forwarding
from web.observation import Unobserved

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import Conversation, HandEngine
    from web.clock import Clock

pytestmark = pytest.mark.slow

WORD = "word " * 2000
COUNT = 2000
KERNELS = 40_000_000
"""Bytes: more than the sockets between an engine, the service and a caller hold, whatever they grow to."""


@pytest.fixture(params=SERVERS.values(), ids=[*SERVERS])
def http_protocol(request: pytest.FixtureRequest) -> Any:
    """Both, since they are written to in different ways."""
    return request.param


async def ask_through_a_small_window(served: Served, body: Json) -> RawResponse:
    """A stream whose reader has room for a few kilobytes."""
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    narrow.setblocking(False)
    await asyncio.get_running_loop().sock_connect(narrow, ("127.0.0.1", served.port))
    reader, writer = await asyncio.open_connection(sock=narrow, limit=4096)
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: test\r\nConnection: close\r\n")
    writer.write(b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    return RawResponse(reader, writer)


async def speak_until_held(talk: Conversation) -> int:
    """Tokens, as fast as they are taken, until for a while none is. How many bytes there were."""
    said = 0
    with contextlib.suppress(TimeoutError):
        while said < KERNELS:
            async with asyncio.timeout(0.5):
                await talk.token(WORD)
            said += len(WORD)
    return said


async def test_a_reader_who_stops_stops_the_engine_and_nobody_else(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    stopped = await ask_through_a_small_window(served, chat())
    talk = await hand_engine.next()
    await talk.begin()
    assert await speak_until_held(talk) < KERNELS

    other = await served.raw(chat())
    quick = await hand_engine.next()
    await quick.begin()
    await quick.token("unhindered", finish="stop")
    await quick.end()
    assert b'"unhindered"' in await other.rest()

    stopped.leave()
    await until(lambda: hand_engine.aborts)


async def test_a_reader_who_goes_on_gets_everything_in_order(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    slow = await ask_through_a_small_window(served, chat())
    talk = await hand_engine.next()
    await talk.begin()

    async def speak() -> None:
        for number in range(COUNT):
            await talk.token(f"{number} {WORD}")
        await talk.token("", finish="stop")
        await talk.end()

    speaking = asyncio.create_task(speak())
    await until(lambda: talk.writer.transport.get_write_buffer_size() > 0, seconds=20)
    await slow.rest()
    await speaking
    numbers = [int(number) for number in re.findall(rb'"content":"(\d+) word', slow.received)]
    assert numbers == list(range(COUNT))
    assert slow.received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_a_reader_of_single_bytes_gets_the_same_stream(served: Served, engine: ScriptedServer) -> None:
    body = chat({"tokens": 20})
    fast = await served.raw(body)
    await fast.rest()
    slow = await ask_through_a_small_window(served, body)
    while byte := await slow.reader.read(1):
        slow.received += byte
    assert slow.received.count(b"data: ") == fast.received.count(b"data: ")
    assert slow.received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


class HandOutlet:
    """An outlet whose writes wait while `open` is not set."""

    def __init__(self) -> None:
        self.begun = self.written = self.writing = False
        self.writes = 0
        self.got: list[bytes] = []
        self.open = asyncio.Event()
        self.under_way = 0
        self.seen: list[Any] = []

    def write_now(self, data: bytes) -> bool:
        return False

    async def write(self, data: bytes) -> None:
        assert not self.under_way, "two writes at once"
        self.under_way += 1
        try:
            self.seen.append((asyncio.current_task(), WHO.get()))
            await self.open.wait()
            self.seen.append((asyncio.current_task(), WHO.get()))
            self.got.append(data)
        finally:
            self.under_way -= 1

    async def end(self, data: bytes) -> None:
        await self.write(data)

    async def comment(self, text: str) -> None: ...


WHO = contextvars.ContextVar("who", default="nobody")


class HandExchange:
    """What a Forwarding needs of an exchange."""

    def __init__(self) -> None:
        self.held = self.finished = False

    def listen(self, reader: Any) -> None: ...

    def hold(self) -> None:
        self.held = True

    def go_on(self) -> None:
        self.held = False

    def finish(self) -> None:
        self.finished = True


class Stream:
    """A Forwarding at work in a task of its own."""

    def __init__(self, *, clock: Clock | None = None, pause: float = 0.0) -> None:
        self.out = HandOutlet()
        self.exchange: Any = HandExchange()
        request = parse_chat(json.dumps(chat()).encode())
        renderer = OpenAIStream(request, answer_id="chatcmpl-1", created=1)
        self.forwarding = Forwarding(
            self.exchange, StreamedAnswer(request, renderer), self.out, clock=clock or RealClock(), pause=pause,
            observation=Unobserved(),
        )  # fmt: skip
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        WHO.set("the caller")
        await self.forwarding.run()

    async def say(self, text: str) -> None:
        await self._hear(token(text))

    async def finish(self) -> None:
        await self._hear(event({"delta": {}, "finish_reason": "stop"}) + b"data: [DONE]\n\n")

    async def _hear(self, data: bytes) -> None:
        """As a connection would tell it: from the event loop, in no task."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell() -> None:
            self.forwarding.heard(data)
            told.set_result(None)

        asyncio.get_running_loop().call_soon(tell)
        await told


def token(text: str) -> bytes:
    return event({"delta": {"content": text}, "finish_reason": None})


def event(choice: Json) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


@pytest.fixture
async def stream() -> Any:
    stream = Stream()
    await asyncio.sleep(0)  # it listens now
    yield stream
    stream.task.cancel()


async def test_a_write_that_need_not_wait_is_done_before_the_next_event_is_heard(stream: Stream) -> None:
    stream.out.open.set()
    for count in range(1, 4):
        await stream.say("word")
        assert len(stream.out.got) == count


async def test_a_write_that_has_to_wait_is_finished_by_the_task_and_what_came_meanwhile_follows(stream: Stream) -> None:
    for text in ("one", "two", "three"):
        await stream.say(text)
    assert stream.out.got == []
    await stream.finish()
    assert stream.exchange.finished
    stream.out.open.set()
    await stream.task
    assert len(stream.out.got) == 2, "one that waited, and all the rest together"
    said = b"".join(stream.out.got)
    assert said.index(b'"one"') < said.index(b'"two"') < said.index(b'"three"') < said.index(b"[DONE]")


async def test_whatever_a_write_asks_asyncio_it_is_the_callers_task_that_writes(stream: Stream) -> None:
    await stream.say("waits")
    stream.out.open.set()
    await until(lambda: stream.out.got)
    await stream.say("does not")
    assert stream.out.seen == [(stream.task, "the caller")] * 4


async def test_what_is_held_back_to_be_sent_together_is_never_overtaken() -> None:
    clock = HandClock()
    stream = Stream(clock=clock, pause=0.01)
    stream.out.open.set()
    await asyncio.sleep(0)
    await stream.say("one")
    assert len(stream.out.got) == 1

    def before_the_task_has_had_its_turn() -> None:
        stream.forwarding.heard(token("two"))
        clock.advance(1.0)
        stream.forwarding.heard(token("three"))

    asyncio.get_running_loop().call_soon(before_the_task_has_had_its_turn)
    await until(lambda: len(stream.out.got) > 1)
    await stream.finish()
    await stream.task
    said = b"".join(stream.out.got)
    assert said.index(b'"one"') < said.index(b'"two"') < said.index(b'"three"') < said.index(b"[DONE]")


async def test_what_waits_for_a_reader_is_bounded_by_holding_the_engine(stream: Stream) -> None:
    await stream.say("first")
    size = 0
    while not stream.exchange.held:
        await stream.say(WORD)
        size += len(WORD)
        assert size < 2 * MOST_UNWRITTEN
    stream.out.open.set()
    await until(lambda: not stream.exchange.held)
    assert len(b"".join(stream.out.got)) > size


async def test_a_caller_who_leaves_during_a_write_ends_it(stream: Stream) -> None:
    await stream.say("waits")
    assert stream.out.under_way == 1
    stream.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream.task
    assert stream.out.under_way == 0
    await stream.say("too late")
    assert stream.out.got == []
