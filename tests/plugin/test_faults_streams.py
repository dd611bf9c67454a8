"""Answers, WebSockets and generators that break off because a test says so, as real clients see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import faulty
import pytest
from hypothesis import given
from hypothesis import strategies as some
from websockets.frames import Frame, Opcode

from emulator.ingress.cuts import EventCounter, MessageCounter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from emulator.faults.faults import Faults
    from emulator.testing.apps import Deploy, RunningApp

pytestmark = pytest.mark.any_containers

EVENTS = b"".join(faulty.events(5))


@pytest.fixture(scope="module")
def app(module_deploy: Deploy) -> RunningApp:
    return module_deploy(faulty)


@pytest.fixture
def faults(app: RunningApp) -> Iterator[Faults]:
    yield app.emulator.faults
    app.emulator.faults.clear()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


async def broken(http: aiohttp.ClientSession, url: str) -> bytes:
    """What came of an answer that broke off."""
    got = b""
    async with http.get(url) as response:
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            async for piece in response.content.iter_any():
                got += piece
    return got


async def whole(http: aiohttp.ClientSession, url: str) -> bytes:
    async with http.get(url) as response:
        return await response.read()


@pytest.mark.parametrize("path", ["/", "/sized"])
async def test_an_answer_breaks_off_after_some_bytes(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession, path: str
) -> None:
    fault = faults.drop_stream("site", after_bytes=13)
    assert await broken(http, app.url("site") + path) == EVENTS[:13]
    assert fault.struck == 1
    assert await whole(http, app.url("site") + path) == EVENTS


async def test_a_stream_of_events_breaks_off_between_two(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession
) -> None:
    faults.drop_stream("site", after_events=2, times=2)
    for _ in range(2):
        assert await broken(http, app.url("site")) == b"data: 0\n\ndata: 1\n\n"
    assert await whole(http, app.url("site")) == EVENTS


async def test_the_container_learns_that_its_reader_has_left(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession
) -> None:
    faults.drop_stream("site", after_events=3)
    await broken(http, app.url("site") + "/endless")
    await app.emulator.wait_until(lambda: "the reader has left" in app.logs(), within=30)


async def test_an_answer_that_is_shorter_is_left_whole(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession
) -> None:
    fault = faults.drop_stream("site", after_bytes=10_000)
    assert await whole(http, app.url("site")) == EVENTS
    assert not fault.struck


async def test_a_websocket_breaks_off_after_some_messages(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession
) -> None:
    faults.drop_stream("site", after_messages=3)
    assert await messages(http, app.url("site")) == (["0" * 200, "1" * 200, "2" * 200], 1006)
    await app.emulator.wait_until(lambda: "the socket's client has left" in app.logs(), within=30)


async def messages(http: aiohttp.ClientSession, url: str) -> tuple[list[Any], int | None]:
    """What came on a WebSocket until it ended, and how it did."""
    got = []
    async with http.ws_connect(url) as socket:
        while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
            got.append(message.data)
        return got, socket.close_code


async def test_a_servers_answers_and_websockets_break_off_too(
    app: RunningApp, faults: Faults, http: aiohttp.ClientSession
) -> None:
    url = app.url("Tower")
    while True:
        async with http.get(url + "/events") as response:
            if response.status == 200:
                break
    faults.drop_stream("Tower", after_events=4)
    assert await broken(http, url + "/events") == b"".join(faulty.events(4))
    faults.drop_stream("Tower", after_messages=2)
    assert await messages(http, url + "/socket") == (["0" * 200, "1" * 200], 1006)


def test_a_generators_caller_loses_its_connection_and_nothing_else(app: RunningApp, faults: Faults) -> None:
    fault = faults.drop_generator("items", after_items=3, times=2)
    assert list(faulty.items.remote_gen(8)) == list(range(8))
    assert fault.struck == 2


def test_one_unit_is_said(faults: Faults) -> None:
    with pytest.raises(ValueError, match="one of after_bytes"):
        faults.drop_stream("site")
    with pytest.raises(ValueError, match="one of after_bytes"):
        faults.drop_stream("site", after_bytes=1, after_events=1)


def split(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    for size in sizes:
        yield data[:size]
        data = data[size:]
    yield data


def kept(counter: EventCounter | MessageCounter, pieces: Iterator[bytes]) -> bytes:
    got = b""
    for piece in pieces:
        passed = counter.passes(piece)
        got += piece[:passed]
        if passed is not None:
            return got
    return got


SIZES = some.lists(some.integers(0, 7), max_size=30)


@given(SIZES, some.integers(1, 4), some.sampled_from([b"\n", b"\r\n"]))
def test_events_are_counted_wherever_they_are_split(sizes: list[int], after: int, end: bytes) -> None:
    stream = [b"data: %d%bid: 1%b%b" % (number, end, end, end) for number in range(6)]
    assert kept(EventCounter(after), split(b"".join(stream), sizes)) == b"".join(stream[:after])


@given(SIZES, some.integers(1, 4), some.sampled_from([0, 5, 130, 70_000]))
def test_messages_are_counted_wherever_they_are_split(sizes: list[int], after: int, length: int) -> None:
    def frame(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
        return Frame(opcode, data, fin).serialize(mask=False)

    message = frame(Opcode.TEXT, b"x" * length, fin=False) + frame(Opcode.PING, b"") + frame(Opcode.CONT, b"y" * length)
    assert kept(MessageCounter(after), split(message * 6, sizes)) == message * after
