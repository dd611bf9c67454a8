"""Sandboxes from within: their streams, their definitions, the clock, and who is let to their commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

import modal
import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2
from modal_proto import task_command_router_pb2 as router_pb2

from emulator.emulator import Emulator
from emulator.protocol.dispatch import Caller
from emulator.protocol.router import RouterHandlers
from emulator.protocol.tokens import LIFETIME, ShortTokens
from emulator.sandboxes.definition import FIELDS
from emulator.sandboxes.streams import Pump, Stdin, StdinClosed, Transcript
from emulator.virtual_clock import VirtualClock
from tests.emulator.sandboxes_kit import no_sandboxes
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator

WITHIN = 20.0


# Streams


async def test_what_is_no_longer_kept_is_seen_by_the_offset_of_what_is() -> None:
    transcript = Transcript(limit=10)
    transcript.add(b"0123456789")
    transcript.add(b"abc")
    transcript.finish()
    assert [piece async for piece in transcript.pieces(0)] == [(3, b"3456789abc")]
    assert [piece async for piece in transcript.pieces(11)] == [(11, b"bc")]


async def test_who_reads_holds_up_who_writes_and_nothing_is_lost() -> None:
    readable, writable = os.pipe()
    for descriptor in (readable, writable):
        os.set_blocking(descriptor, False)
    transcript = Transcript(limit=4 << 20)
    pump = Pump(readable, transcript, lambda _: None)
    pieces = transcript.pieces(0)
    written, data = 0, os.urandom(1 << 16)
    os.write(writable, data[:1])
    assert await anext(pieces) == (0, data[:1])
    written += 1
    while not transcript.full:
        with contextlib.suppress(BlockingIOError):
            written += os.write(writable, data)
        await asyncio.sleep(0)
    os.close(writable)
    async with asyncio.timeout(WITHIN):
        assert 1 + sum([len(piece) async for _, piece in pieces]) == written
    pump.close()


async def test_what_is_written_to_stdin_twice_arrives_once_and_a_gap_is_refused() -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    stdin = Stdin(writable, terminal=False)
    await stdin.write(b"hello", offset=0)
    await stdin.write(b"llo, you", offset=2)
    with pytest.raises(ValueError, match="10 bytes"):
        await stdin.write(b"!", offset=11)
    await stdin.write(b"", offset=10, eof=True)
    await stdin.write(b"", offset=10, eof=True)
    with pytest.raises(StdinClosed):
        await stdin.write(b"!", offset=10)
    assert os.read(readable, 100) == b"hello, you"
    assert os.read(readable, 100) == b""
    os.close(readable)


async def test_who_writes_to_a_command_that_does_not_read_is_let_go_when_it_ends() -> None:
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    stdin = Stdin(writable, terminal=False)
    writing = asyncio.create_task(stdin.write(b"x" * (3 << 20)))
    done, _ = await asyncio.wait([writing], timeout=0.05)
    assert not done
    stdin.end()
    with pytest.raises(StdinClosed):
        await writing
    os.close(readable)


# Definitions and tokens


def test_every_field_of_a_sandboxs_definition_has_its_fate() -> None:
    assert set(api_pb2.Sandbox.DESCRIPTOR.fields_by_name) <= set(FIELDS)


class Hour:
    """A time of day that is set."""

    now = 1_000_000.0

    def time(self) -> float:
        return self.now


async def test_commands_are_for_who_has_the_token_of_that_container() -> None:
    clock: Any = Hour()
    tokens = ShortTokens(clock)
    nothing: Any = None
    handlers = RouterHandlers(no_sandboxes(clock), tokens, clock, container=nothing, secrets=nothing, reload=nothing)

    async def status(authorization: str) -> Status:
        request = router_pb2.TaskExecWaitRequest(task_id="ta-1", exec_id="none")
        with pytest.raises(GRPCError) as refused:
            await handlers.TaskExecWait(request, Caller(authorization=authorization))
        return refused.value.status

    admitted = f"Bearer {tokens.issue(container='ta-1')}"
    assert await status(admitted) == Status.NOT_FOUND
    for other in ("", "Bearer x.y.z", f"Bearer {tokens.issue()}", f"Bearer {tokens.issue(container='ta-2')}"):
        assert await status(other) == Status.UNAUTHENTICATED
    clock.now += LIFETIME + 1
    assert await status(admitted) == Status.UNAUTHENTICATED


# With a clock that is turned, beside functions' containers that are threads


@pytest.fixture(scope="module")
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture(scope="module")
def client(clock: VirtualClock) -> Iterator[modal.Client]:
    with Emulator(clock=clock, containers="thread") as emulator:
        client = client_of(emulator.environment)
        yield client
        client.close()


@pytest.mark.slow
def test_a_sandboxs_time_and_its_commands_is_the_emulators(clock: VirtualClock, client: modal.Client) -> None:
    app = modal.App.lookup("timed", create_if_missing=True, client=client)
    sandbox = modal.Sandbox.create(app=app, client=client, timeout=24 * 3600)
    process = sandbox.exec("sleep", "100000", timeout=7200)
    idle = modal.Sandbox.create(app=app, client=client, idle_timeout=600, timeout=24 * 3600)
    assert idle.exec("true").wait() == 0
    clock.advance(3600)
    idle.wait(raise_on_termination=False)
    assert idle.returncode == 137
    assert process.poll() is None
    assert sandbox.poll() is None
    clock.advance(3600)
    assert process.wait() == 137
    clock.advance(22 * 3600)
    with pytest.raises(modal.exception.SandboxTimeoutError):
        sandbox.wait()
