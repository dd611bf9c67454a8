"""Stored responses when something is in the way: what is too long, a store that fails, a caller who leaves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import MODEL, settings_with, target_of, until
from tests.web.response_kit import TOO_LONG, ask, assistant, eventually, user
from web.application import create_application
from web.clock import RealClock
from web.services import Services
from web.stored import StoredResponse
from web.stored_errors import ResponsesUnavailable
from web.stored_memory import ResponsesInMemory

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.doubles import HandEngine

pytestmark = pytest.mark.slow

Sdk = Any


class TestTooLong:
    """`truncation`, with an engine that takes so many messages and no more."""

    @staticmethod
    async def take(hand_engine: HandEngine, most: int) -> list[int]:
        """Answer what is short enough; how many messages each try had."""
        tried = []
        while True:
            talk = await hand_engine.next()
            tried.append(len(talk.json["messages"]))
            if tried[-1] <= most:
                await talk.begin()
                await talk.token("ok")
                await talk.token("", finish="stop")
                await talk.end()
                return tried
            await talk.answer(400, TOO_LONG)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_auto_leaves_out_the_oldest(
        self, serve: Any, hand_engine: HandEngine, sdk: Sdk, stream: bool
    ) -> None:
        client = sdk(serve(target_of(hand_engine.url, kind="llamacpp"), web={"heartbeat_interval": 0.05}))
        items: Any = [item for n in range(4) for item in (user(f"q{n}"), assistant(f"a{n}"))]
        request = {"model": MODEL, "input": [*items, user("last")], "truncation": "auto", "stream": stream}
        async with asyncio.TaskGroup() as tasks:
            taken = tasks.create_task(self.take(hand_engine, 3))
            told = await client.responses.create(**request)
            if stream:
                *_, last = [event async for event in told]
                told = last.response
        assert taken.result() == [9, 3]
        assert (told.status, told.truncation) == ("completed", "auto")
        kept = [item async for item in client.responses.input_items.list(told.id, limit=100)]
        assert len(kept) == 9, "nothing that was said is forgotten"

    async def test_auto_leaves_out_the_oldest_also_when_the_stream_has_begun_with_signs_of_life(
        self, serve: Any, hand_engine: HandEngine
    ) -> None:
        served = serve(hand_engine.url, web={"heartbeat_interval": 0.02})
        body = {"model": MODEL, "input": [user("a"), assistant("b"), user("c")], "stream": True, "truncation": "auto"}
        raw = await served.raw(body, "/v1/responses")
        talk = await hand_engine.next()
        await raw.until(b": ")
        await talk.answer(400, TOO_LONG)
        talk = await hand_engine.next()
        assert talk.json["messages"] == [user("c")]
        await talk.begin()
        await talk.token("ok", finish="stop")
        await talk.end()
        told = (await raw.rest()).decode()
        assert told.count("HTTP/1.1 200") == 1
        assert told.count("event: response.created") == told.count("event: response.completed") == 1
        assert "response.failed" not in told

    async def test_disabled_refuses(self, serve: Any, hand_engine: HandEngine, sdk: Sdk) -> None:
        client = sdk(serve(hand_engine.url))
        asking = asyncio.create_task(client.responses.create(model=MODEL, input=[user("a"), user("b")]))
        talk = await hand_engine.next()
        await talk.answer(400, TOO_LONG)
        with pytest.raises(openai.BadRequestError):
            await asking


SLOW = {"model": MODEL, "input": "hi", "x_scripted": {"gap": 0.01}}
"""So slow that its pieces come one by one."""


class Faulty(ResponsesInMemory):
    """`held`: what is kept waits. `broken`: it fails; `down`: everything does."""

    def __init__(self) -> None:
        super().__init__(clock=RealClock())
        self.held = self.broken = self.down = False
        self.keeping = 0

    async def check(self) -> None:
        if self.down:
            raise ResponsesUnavailable

    async def keep(self, response: StoredResponse) -> None:
        self.keeping += 1
        await until(lambda: not self.held, seconds=30)
        if self.broken or self.down:
            raise ResponsesUnavailable
        await super().keep(response)


class TestFaults:
    @pytest.fixture
    def store(self) -> Faulty:
        return Faulty()

    async def test_the_end_is_told_when_it_is_kept(self, serve: Any, engine: ScriptedServer, store: Faulty) -> None:
        served = serve(engine, responses=store)
        store.held = True
        stream = await served.raw(SLOW | {"stream": True}, "/v1/responses")
        plain = await served.raw({"model": MODEL, "input": "hi"}, "/v1/responses")
        await stream.until(b"response.output_text.delta")
        await until(lambda: store.keeping == 2, seconds=20)
        assert b"response.completed" not in stream.received + await stream.ready()
        assert await plain.ready() == b""
        store.held = False
        await stream.until(b"response.completed")
        assert (await plain.head())[0] == 200

    async def test_what_cannot_be_kept_is_not_told_as_completed(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        client = sdk(serve(engine, responses=store))
        store.broken = True
        *_, last = [event async for event in await client.responses.create(stream=True, **ask(script={"gap": 0.01}))]
        assert (last.type, last.response.status) == ("response.failed", "failed")
        assert last.response.output_text.startswith("t0 ")
        assert last.response.error.type == "responses_unavailable"
        with pytest.raises(openai.InternalServerError) as caught:
            await client.responses.create(**ask())
        assert (caught.value.status_code, caught.value.code) == (503, "responses_unavailable")

    async def test_where_nothing_can_be_kept_no_engine_is_asked_but_for_what_is_not_to_be(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        client = sdk(serve(engine, responses=store))
        store.down = True
        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.responses.create(stream=stream, **ask())
            assert (caught.value.status_code, caught.value.code) == (503, "responses_unavailable")
        assert not engine.state()["requests"]
        assert (await client.responses.create(store=False, **ask())).status == "completed"

    async def test_who_leaves_while_it_is_kept_leaves_it_kept(
        self, serve: Any, engine: ScriptedServer, store: Faulty, sdk: Sdk
    ) -> None:
        served = serve(engine, responses=store)
        store.held = True
        raw = await served.raw(SLOW | {"stream": True}, "/v1/responses")
        told = await raw.until(b"response.output_text.delta")
        await until(lambda: store.keeping == 1, seconds=20)
        raw.leave()
        store.held = False
        response_id = told.partition(b'"id":"')[2].partition(b'"')[0].decode()
        assert (await eventually(sdk(served), response_id)).status == "completed"

    async def test_who_leaves_before_he_has_read_the_end_leaves_a_complete_response(
        self, engine: ScriptedServer
    ) -> None:
        """The engine has said all of it, while the caller takes nothing more."""
        store = ResponsesInMemory(clock=RealClock())
        settings = settings_with()
        engines = ConfiguredEngines(settings.models, {"scripted": target_of(engine)})
        application = create_application(Services(settings=settings, engines=engines, responses=store))
        said = [{"type": "http.request", "body": json.dumps(SLOW | {"stream": True}).encode()}]
        told: list[bytes] = []
        left = asyncio.Event()

        async def receive() -> Any:
            if said:
                return said.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                told.append(message["body"])
                await asyncio.Event().wait()

        scope = {
            "type": "http", "method": "POST", "path": "/v1/responses", "raw_path": b"/v1/responses",
            "query_string": b"", "headers": [], "client": ("127.0.0.1", 1), "app": None,
        }  # fmt: skip
        asking = asyncio.create_task(application(scope, receive, send))
        await until(lambda: told, seconds=20)
        await until(lambda: engine.state()["requests"][-1]["outcome"] != "running", seconds=20)
        left.set()
        await asking
        ((key, _),) = store._kept.items()
        stored = await store.load(key)
        assert stored is not None
        assert stored.response["status"] == "completed"
