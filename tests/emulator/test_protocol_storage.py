"""Dicts and Queues, as a client that checks nothing itself would ask for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import pytest
from grpclib import Status
from modal_proto import api_pb2

from emulator.protocol.dicts import DictHandlers
from emulator.protocol.dispatch import Caller, Dispatcher
from emulator.protocol.environments import EnvironmentHandlers
from emulator.protocol.heartbeats import SILENCE
from emulator.protocol.queues import QueueHandlers
from emulator.state import State
from emulator.storage.store import NothingKept
from tests.emulator.heart_kit import TurnedClock, settle
from tests.emulator.protocol_kit import refused, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modal_proto.api_grpc import ModalClientStub

CREATE = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
EPHEMERAL = api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def server(clock: TurnedClock) -> AsyncIterator[ModalClientStub]:
    state = State()
    storage = DictHandlers(state, clock, NothingKept()), QueueHandlers(state, clock, NothingKept())
    async with served(EnvironmentHandlers(state, clock), *storage) as stub:
        yield stub


async def a_queue(server: ModalClientStub, name: str = "q") -> str:
    kind = CREATE if name else EPHEMERAL
    request = api_pb2.QueueGetOrCreateRequest(deployment_name=name, object_creation_type=kind)
    return (await server.QueueGetOrCreate(request)).queue_id


async def a_dict(server: ModalClientStub, name: str = "d") -> str:
    kind = CREATE if name else EPHEMERAL
    request = api_pb2.DictGetOrCreateRequest(deployment_name=name, object_creation_type=kind)
    return (await server.DictGetOrCreate(request)).dict_id


async def test_an_ephemeral_object_is_there_as_long_as_heartbeats_come(
    server: ModalClientStub, clock: TurnedClock
) -> None:
    dict_id, queue_id, named = await a_dict(server, ""), await a_queue(server, ""), await a_dict(server)
    for _ in range(3):
        await clock.turn(SILENCE - 1)
        await server.DictHeartbeat(api_pb2.DictHeartbeatRequest(dict_id=dict_id))
        await server.QueueHeartbeat(api_pb2.QueueHeartbeatRequest(queue_id=queue_id))
    await clock.turn(SILENCE)
    await refused(server.DictHeartbeat(api_pb2.DictHeartbeatRequest(dict_id=dict_id)), Status.NOT_FOUND)
    await refused(server.QueueHeartbeat(api_pb2.QueueHeartbeatRequest(queue_id=queue_id)), Status.NOT_FOUND)
    await server.DictHeartbeat(api_pb2.DictHeartbeatRequest(dict_id=named))
    await clock.turn(2 * SILENCE)
    await server.DictLen(api_pb2.DictLenRequest(dict_id=named))


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_who_does_not_wait_is_answered_at_once(server: ModalClientStub, seconds: float) -> None:
    request = api_pb2.QueueGetRequest(queue_id=await a_queue(server), timeout=seconds, n_values=1)
    assert list((await server.QueueGet(request)).values) == []
    look = api_pb2.QueueNextItemsRequest(queue_id=request.queue_id, item_poll_timeout=seconds)
    assert list((await server.QueueNextItems(look)).items) == []


async def test_nobody_is_held_for_longer_than_a_minute(server: ModalClientStub, clock: TurnedClock) -> None:
    queue_id = await a_queue(server)
    get = api_pb2.QueueGetRequest(queue_id=queue_id, timeout=1e9, n_values=1)
    look = api_pb2.QueueNextItemsRequest(queue_id=queue_id, item_poll_timeout=1e9)
    waiting = [asyncio.create_task(call) for call in (server.QueueGet(get), server.QueueNextItems(look))]
    while not all(task.done() for task in waiting):  # a request is a while on its way
        await settle()
        await clock.turn(60)
    got, seen = [await task for task in waiting]
    assert (list(got.values), list(seen.items)) == ([], [])


async def test_what_is_no_request_is_refused(server: ModalClientStub) -> None:
    queue_id = await a_queue(server)
    for call in (
        server.QueueGet(api_pb2.QueueGetRequest(queue_id=queue_id, n_values=0)),
        server.QueueGet(api_pb2.QueueGetRequest(queue_id=queue_id, n_values=1, partition_key=b"x" * 65)),
        server.QueueNextItems(api_pb2.QueueNextItemsRequest(queue_id=queue_id, last_entry_id="first")),
        server.QueuePut(api_pb2.QueuePutRequest(queue_id=queue_id, values=[b""], partition_ttl_seconds=-1)),
    ):
        await refused(call, Status.INVALID_ARGUMENT)


async def test_the_entries_that_a_dict_is_made_with_are_those_of_a_new_one_alone(server: ModalClientStub) -> None:
    def request(key: bytes) -> api_pb2.DictGetOrCreateRequest:
        return api_pb2.DictGetOrCreateRequest(
            deployment_name="d", object_creation_type=CREATE, data=[api_pb2.DictEntry(key=key, value=b"value")]
        )

    dict_id = (await server.DictGetOrCreate(request(b"first"))).dict_id
    await server.DictGetOrCreate(request(b"second"))
    entries = await server.DictContents(api_pb2.DictContentsRequest(dict_id=dict_id, keys=True, values=True))
    assert list(entries) == [api_pb2.DictEntry(key=b"first", value=b"value")]


async def test_a_large_dict_comes_in_pieces_and_keys_without_their_values(server: ModalClientStub) -> None:
    dict_id = await a_dict(server)
    entries = [api_pb2.DictEntry(key=b"%d" % number, value=bytes(100_000)) for number in range(20)]
    await server.DictUpdate(api_pb2.DictUpdateRequest(dict_id=dict_id, updates=entries))
    whole = await server.DictContents(api_pb2.DictContentsRequest(dict_id=dict_id, values=True))
    assert list(whole) == entries
    keys = await server.DictContents(api_pb2.DictContentsRequest(dict_id=dict_id, keys=True))
    assert [(entry.key, entry.value) for entry in keys] == [(entry.key, b"") for entry in entries]


class BrokenStream:
    """Of a client that has gone by the time its answer is ready."""

    metadata: ClassVar[dict[str, str]] = {}

    def __init__(self, request: object) -> None:
        self._request = request

    async def recv_message(self) -> object:
        return self._request

    async def send_message(self, message: object) -> None:
        raise ConnectionResetError


async def test_items_whose_answer_cannot_be_sent_are_there_again_in_their_place(clock: TurnedClock) -> None:
    state, nobody = State(), Caller()
    EnvironmentHandlers(state, clock)
    queues = QueueHandlers(state, clock, NothingKept())
    made = await queues.QueueGetOrCreate(
        api_pb2.QueueGetOrCreateRequest(deployment_name="q", object_creation_type=CREATE), nobody
    )
    await queues.QueuePut(api_pb2.QueuePutRequest(queue_id=made.queue_id, values=[b"1", b"2", b"3"]), nobody)
    route = Dispatcher([queues], print).servable(nobody).__mapping__()["/modal.client.ModalClient/QueueGet"]
    with pytest.raises(ConnectionResetError):
        await route.func(BrokenStream(api_pb2.QueueGetRequest(queue_id=made.queue_id, n_values=2)))  # type: ignore[arg-type]
    look = api_pb2.QueueNextItemsRequest(queue_id=made.queue_id)
    assert [item.value for item in (await queues.QueueNextItems(look, nobody)).items] == [b"1", b"2", b"3"]
