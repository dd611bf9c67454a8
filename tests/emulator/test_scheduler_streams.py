"""Data streams of a call: numbered, bounded, repeatable."""

from __future__ import annotations

import asyncio

import pytest
from modal_proto import api_pb2

import emulator.scheduler.streams as module
from emulator.scheduler.streams import AHEAD_BYTES, REPLAY_BYTES, DataStream, StreamLost
from tests.emulator.heart_kit import settle


def chunk(data: bytes, index: int = 0) -> api_pb2.DataChunk:
    return api_pb2.DataChunk(data=data, index=index)


async def collect(stream: DataStream, last_index: int = 0) -> list[tuple[int, bytes]]:
    return [(item.index, item.data) async for item in stream.read(last_index)]


async def test_chunks_are_numbered_from_one_and_end_when_the_stream_is_closed() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(b"a"), chunk(b"b")])
    stream.close()
    assert await collect(stream) == [(1, b"a"), (2, b"b")]


async def test_a_reader_waits_for_what_is_written_later() -> None:
    stream = DataStream(expects_reader=False)
    reading = asyncio.create_task(collect(stream))
    await settle()
    await stream.put([chunk(b"late")])
    stream.close()
    assert await reading == [(1, b"late")]


async def test_a_second_attempt_that_writes_the_same_numbers_again_adds_nothing() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(b"a", 1), chunk(b"b", 2)])
    await stream.put([chunk(b"A", 1), chunk(b"B", 2), chunk(b"c", 3)])
    stream.close()
    assert await collect(stream) == [(1, b"a"), (2, b"b"), (3, b"c")]


async def test_a_reader_that_comes_back_goes_on_after_what_it_has() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(b"a"), chunk(b"b"), chunk(b"c")])
    stream.close()
    assert await collect(stream) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert await collect(stream, last_index=2) == [(3, b"c")]


async def test_a_writer_waits_while_the_reader_is_too_far_behind() -> None:
    stream = DataStream(expects_reader=True)
    writing = asyncio.create_task(stream.put([chunk(bytes(AHEAD_BYTES)), chunk(b"x")]))
    await settle()
    assert not writing.done()
    reader = stream.read()
    await anext(reader)
    await anext(reader)
    await settle()
    assert writing.done()
    await reader.aclose()


async def test_a_writer_waits_for_a_reader_who_has_left_until_he_comes_back_or_the_stream_is_closed() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(b"a")])
    reader = stream.read()
    await anext(reader)
    await reader.aclose()
    writing = asyncio.create_task(stream.put([chunk(bytes(AHEAD_BYTES)), chunk(b"x")]))
    await settle()
    assert not writing.done()
    back = stream.read(1)
    await anext(back)
    await settle()
    assert writing.done()
    held = asyncio.create_task(stream.put([chunk(bytes(AHEAD_BYTES))]))
    await settle()
    assert not held.done()
    stream.close()
    await held
    await back.aclose()


async def test_an_abandoned_stream_takes_all_that_is_written_and_holds_the_latest_of_it() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(b"a")])
    reader = stream.read()
    await anext(reader)
    assert not stream.left
    await reader.aclose()
    assert stream.left
    writing = asyncio.create_task(stream.put([chunk(bytes(AHEAD_BYTES)), chunk(b"x")]))
    await settle()
    assert not writing.done()
    stream.abandon()
    await settle()
    assert writing.done()
    for _ in range(5):
        await stream.put([chunk(bytes(AHEAD_BYTES // 2))])
    assert stream.size < 3 * AHEAD_BYTES
    stream.close()
    with pytest.raises(StreamLost):
        await collect(stream)


async def test_blobs_of_chunks_that_were_let_go_are_still_known() -> None:
    stream = DataStream(expects_reader=False)
    await stream.put([api_pb2.DataChunk(data_blob_id="bl-1"), chunk(bytes(REPLAY_BYTES)), chunk(b"end")])
    stream.close()
    assert len(await collect(stream)) == 3
    assert not stream.whole
    assert stream.blobs() == ["bl-1"]


async def test_a_stream_that_nobody_has_ever_read_holds_a_bounded_amount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNSEEN_BYTES", 10_000)
    stream = DataStream(expects_reader=False)
    await stream.put([chunk(bytes(9_000))])
    writing = asyncio.create_task(stream.put([chunk(bytes(9_000))]))
    await settle()
    assert not writing.done()
    writing.cancel()


async def test_a_writer_with_no_reader_in_sight_does_not_wait() -> None:
    stream = DataStream(expects_reader=False)
    async with asyncio.timeout(30):
        await stream.put([chunk(bytes(AHEAD_BYTES)), chunk(b"x")])


async def test_what_was_read_is_let_go_after_a_while_and_asking_for_it_is_an_error() -> None:
    stream = DataStream(expects_reader=False)
    half = bytes(REPLAY_BYTES // 2)
    await stream.put([chunk(half), chunk(half), chunk(half), chunk(b"end")])
    stream.close()
    assert len(await collect(stream)) == 4
    assert not stream.whole
    with pytest.raises(StreamLost, match="chunk 1 is gone"):
        await collect(stream)


async def test_what_is_there_at_once_is_read_together_and_what_comes_later_follows() -> None:
    stream = DataStream(expects_reader=True)
    await stream.put([chunk(b"a"), chunk(b"b")])
    batches = stream.batches()
    assert [item.data for item in await anext(batches)] == [b"a", b"b"]
    waiting = asyncio.ensure_future(anext(batches))
    await settle()
    await stream.put([chunk(b"c")])
    assert [item.data for item in await waiting] == [b"c"]
    stream.close()
    assert [item async for item in batches] == []


async def test_a_writer_waits_for_a_reader_of_batches_too() -> None:
    stream = DataStream(expects_reader=True)
    writing = asyncio.create_task(stream.put([chunk(bytes(AHEAD_BYTES)), chunk(b"more")]))
    await settle()
    assert not writing.done()
    assert len(await anext(stream.batches())) == 2
    await writing
