"""Embeddings by OpenAI's SDK; and an engine that embeds is waited for, fails and is left as one that answers is."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.engines.scripted_words import DIMENSIONS, vector
from infra.settings import Model, Models, Settings
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import UNLIMITED, target_of, until

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandClock, HandEngine

EMBEDS = Model(id="embeds", name="org/embeds", local_engine="scripted", embedding=True)
SHORTENS = Model(id="shortens", name="org/shortens", local_engine="scripted", embedding=True, matryoshka=True)
CHATS = Model(id="chats", name="org/chats", local_engine="scripted")
SETTINGS = Settings(models=Models(available_models=(EMBEDS, SHORTENS, CHATS)), limits=UNLIMITED)


class Woken(ConfiguredEngines):
    """Tells which models were asked for."""

    def __init__(self, url: str) -> None:
        super().__init__(SETTINGS.models, {model.id: target_of(url) for model in SETTINGS.models.available_models})
        self.asked: list[str] = []

    def resolve(self, label: str) -> Any:
        self.asked.append(label)
        return super().resolve(label)


@pytest.fixture
def served(serve: Any, engine: ScriptedServer) -> Served:
    result: Served = serve(engine, settings=SETTINGS, engines=Woken(engine.url))
    return result


def near(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("given", ["hello there", ["a", "b c"], [1, 2, 3], [[1, 2], [3]]])
async def test_every_form_of_input_is_embedded_in_order(served: Served, given: Any) -> None:
    answer = await served.sdk().embeddings.create(model="org/embeds", input=given)
    several = isinstance(given, list) and not isinstance(given[0], int)
    inputs = given if several else [given]
    assert [entry.index for entry in answer.data] == list(range(len(inputs)))
    assert all(near(entry.embedding, vector(text)) for entry, text in zip(answer.data, inputs, strict=True))
    assert (answer.object, answer.model, answer.data[0].object) == ("list", "org/embeds", "embedding")
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


async def test_the_sdks_default_is_base64_and_floats_are_the_same_numbers(served: Served) -> None:
    raw: Any = await served.sdk().post(
        "/embeddings", body={"model": "embeds", "input": "x", "encoding_format": "base64"}, cast_to=object
    )
    assert isinstance(raw["data"][0]["embedding"], str)
    client = served.sdk().embeddings
    default = await client.create(model="embeds", input="x")
    floats = await client.create(model="embeds", input="x", encoding_format="float")
    assert near(default.data[0].embedding, floats.data[0].embedding)


async def test_the_blocking_client_works_too(served: Served) -> None:
    with openai.OpenAI(base_url=served.url + "/v1", api_key="none", max_retries=0) as client:
        answer = await asyncio.to_thread(client.embeddings.create, model="embeds", input="x")
    assert near(answer.data[0].embedding, vector("x"))


@pytest.mark.parametrize("encoding", ["float", "base64"])
async def test_a_model_that_was_trained_for_it_is_shortened_to_length_one(served: Served, encoding: Any) -> None:
    client = served.sdk().embeddings
    options: Any = {} if encoding == "base64" else {"encoding_format": "float"}
    (entry,) = (await client.create(model="shortens", input="x", dimensions=8, **options)).data
    kept = vector("x")[:8]
    length = math.sqrt(sum(value * value for value in kept))
    assert near(entry.embedding, [value / length for value in kept])
    (whole,) = (await client.create(model="shortens", input="x", dimensions=DIMENSIONS, **options)).data
    assert near(whole.embedding, vector("x"))
    with pytest.raises(openai.BadRequestError, match=f"the model's vectors have {DIMENSIONS}") as caught:
        await client.create(model="shortens", input="x", dimensions=DIMENSIONS + 1, **options)
    assert (caught.value.param, caught.value.code) == ("dimensions", "invalid_value")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x", "dimensions": 8}, "dimensions"),
        ({"input": "x", "model": "chats"}, "model"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": [-1]}, "input[0]"),
        ({"input": ["x"] * 2049}, "input"),
        ({"input": None}, "input"),
        ({}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "dimensions": 0}, "dimensions"),
        ({"input": "x", "dimensions": 10**30}, "dimensions"),
        ({"input": "x", "model": None}, "model"),
    ],
)
async def test_what_cannot_be_embedded_is_a_400_that_names_the_field_and_wakes_nobody(
    serve: Any, engine: ScriptedServer, body: Any, param: str
) -> None:
    engines = Woken(engine.url)
    served = serve(engine, settings=SETTINGS, engines=engines)
    with pytest.raises(openai.BadRequestError) as caught:
        await served.sdk().post("/embeddings", body={"model": "embeds", **body}, cast_to=object)
    assert caught.value.param == param
    assert engines.asked == []


async def test_an_embedding_model_does_not_chat(serve: Any, engine: ScriptedServer) -> None:
    engines = Woken(engine.url)
    served = serve(engine, settings=SETTINGS, engines=engines)
    client = served.sdk()
    for stream in (True, False):
        with pytest.raises(openai.BadRequestError, match="makes embeddings") as caught:
            await client.chat.completions.create(
                model="embeds", messages=[{"role": "user", "content": "x"}], stream=stream
            )
        assert caught.value.param == "model"
    with pytest.raises(openai.BadRequestError, match="makes embeddings"):
        await client.completions.create(model="embeds", prompt="x")
    assert engines.asked == []


async def test_an_unknown_model_is_a_404(served: Served) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await served.sdk().embeddings.create(model="nobody", input="x")
    assert caught.value.code == "model_not_found"


async def test_nulls_and_fields_that_nobody_knows_are_taken(served: Served) -> None:
    body = {"model": "embeds", "input": "x", "dimensions": None, "encoding_format": None, "user": "u", "what": "ever"}
    answer: Any = await served.sdk().post("/embeddings", body=body, cast_to=object)
    assert isinstance(answer["data"][0]["embedding"], list), "OpenAI's own default, which its SDKs do not use"


class TestTheEngine:
    BODY = json.dumps({"model": "embeds", "input": "x"}).encode()
    ANSWER = json.dumps({"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": {"prompt_tokens": 1}}).encode()

    def start(self, serve: Any, engine: HandEngine, **services: Any) -> Served:
        served: Served = serve(engine.url, settings=SETTINGS, engines=Woken(engine.url), **services)
        return served

    async def test_one_that_boots_is_asked_again_and_is_a_cold_start(
        self, serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession
    ) -> None:
        served = self.start(serve, hand_engine)
        response = await served.raw(self.BODY, "/v1/embeddings")
        await (await hand_engine.next()).answer(503, b"modal-http: no running containers\n")
        await (await hand_engine.next()).answer(200, self.ANSWER)
        assert (await response.head())[0] == 200
        assert json.loads(await response.rest())["data"][0]["embedding"] == [0.6, 0.8]
        told = await (await http.get(served.url + "/metrics")).text()
        assert 'cold_start_requests_total{model="embeds"} 1.0' in told
        assert 'cold_start_seconds_count{model="embeds"} 1.0' in told
        assert 'chat_completions_requests_total{model="embeds"} 0.0' in told, "it is no chat"

    async def test_one_that_boots_for_too_long_is_a_503_to_try_again(
        self, serve: Any, hand_engine: HandEngine, clock: HandClock
    ) -> None:
        served = self.start(serve, hand_engine, clock=clock)
        response = await served.raw(self.BODY, "/v1/embeddings")
        await (await hand_engine.next()).answer(503, b"modal-http: no running containers\n")
        await until(lambda: any(seconds <= 1 for seconds in clock.pending()))
        clock.advance(120)
        await (await hand_engine.next()).answer(503, b"modal-http: no running containers\n")
        status, headers = await response.head()
        assert (status, headers["x-should-retry"]) == (503, "true")
        assert json.loads(await response.rest())["error"]["code"] == "model_booting"

    async def test_one_that_is_left_is_told_by_the_closing_of_its_connection(
        self, serve: Any, hand_engine: HandEngine
    ) -> None:
        served = self.start(serve, hand_engine)
        response = await served.raw(self.BODY, "/v1/embeddings")
        talk = await hand_engine.next()
        response.leave()
        async with asyncio.timeout(20):
            await talk.closed.wait()

    @pytest.mark.parametrize(
        ("status", "body", "told", "code"),
        [
            (400, b'{"object":"error","message":"no","code":400}', 400, None),
            (500, b'{"error":{"code":500,"message":"input (9 tokens) is too large to process."}}', 400,
             "context_length_exceeded"),
            (500, b'{"error":{"message":"Traceback"}}', 502, "engine_error"),
            (503, b'{"object":"error","message":"The request queue is full.","code":503}', 503, "server_is_overloaded"),
            (200, b"nonsense", 502, "engine_protocol"),
            (200, b'{"data":[]}', 502, "engine_protocol"),
            (200, b'{"data":[{"index":0,"embedding":"***"}]}', 502, "engine_protocol"),
            (200, b'{"data":[{"index":0,"embedding":[null]}]}', 502, "engine_protocol"),
        ],
    )  # fmt: skip
    async def test_what_one_says_wrong_is_told_in_openais_words(
        self, serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession, status: int, body: bytes, told: int,
        code: str | None,
    ) -> None:  # fmt: skip
        served = self.start(serve, hand_engine)
        request = asyncio.ensure_future(http.post(served.url + "/v1/embeddings", data=self.BODY))
        await (await hand_engine.next()).answer(status, body)
        async with await request as response:
            error = (await response.json())["error"]
        assert (response.status, error["code"]) == (told, code)
        if told == 400:
            assert error["param"] == "input"

    async def test_one_that_dies_is_a_502(
        self, serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession
    ) -> None:
        served = self.start(serve, hand_engine)
        request = asyncio.ensure_future(http.post(served.url + "/v1/embeddings", data=self.BODY))
        talk = await hand_engine.next()
        talk.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await talk.writer.drain()
        talk.cut()
        async with await request as response:
            assert (response.status, (await response.json())["error"]["code"]) == (502, "engine_died")
