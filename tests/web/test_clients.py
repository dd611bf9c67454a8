"""The real SDK, as its users use it; and what every answer carries."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.engines.scripted_server import Options, ScriptedServer
from tests.web.conftest import MODEL, chat, settings_with, until
from web.engines import EngineTarget
from web.outlets import StreamingResponse

if TYPE_CHECKING:
    import aiohttp
    from openai.types.chat import ChatCompletionMessageParam

    from tests.web.conftest import Served
    from tests.web.doubles import HandClock, HandEngine

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello there"}]


def scripted(**script: Any) -> dict[str, Any]:
    return {"x_scripted": script}


async def test_a_stream_adds_up(served: Served) -> None:
    stream = await served.sdk().chat.completions.create(
        model=MODEL, messages=HELLO, stream=True, stream_options={"include_usage": True}, extra_body=scripted(tokens=5)
    )
    chunks = [chunk async for chunk in stream]
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == "t0 t1 t2 t3 t4 "
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5


async def test_the_sdks_own_accumulator_understands_the_stream(served: Served) -> None:
    calls = [{"name": "look", "arguments": '{"at": 1}'}]
    tool: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    async with served.sdk().chat.completions.stream(
        model=MODEL, messages=HELLO, tools=[tool], extra_body=scripted(text="well", tool_calls=calls)
    ) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "well"
    assert message.tool_calls is not None
    assert json.loads(message.tool_calls[0].function.arguments) == {"at": 1}
    assert final.choices[0].finish_reason == "tool_calls"


async def test_a_plain_answer_is_whole(served: Served) -> None:
    answer = await served.sdk().chat.completions.create(
        model=MODEL, messages=HELLO, n=2, logprobs=True, extra_body=scripted(tokens=3, reasoning="so so")
    )
    assert [choice.message.content for choice in answer.choices] == ["t0 t1 t2 "] * 2
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.model_extra == {"reasoning_content": "so so"}
    logprobs = answer.choices[1].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [entry.token for entry in logprobs.content] == ["t0 ", "t1 ", "t2 "]
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert (answer.object, answer.model, answer.choices[0].finish_reason) == ("chat.completion", MODEL, "stop")


async def test_a_plain_answer_that_calls_tools_has_null_content(served: Served) -> None:
    calls = [{"name": "a", "arguments": "{}"}, {"name": "b", "arguments": '{"x":"y"}'}]
    tool: Any = {"type": "function", "function": {"name": "a"}}
    answer = await served.sdk().chat.completions.create(
        model=MODEL, messages=HELLO, tools=[tool], extra_body=scripted(text="", tool_calls=calls)
    )
    message = answer.choices[0].message
    assert message.content is None
    assert [(call.function.name, call.function.arguments) for call in message.tool_calls or []] == [  # type: ignore[union-attr]
        ("a", "{}"), ("b", '{"x":"y"}'),
    ]  # fmt: skip


async def test_completions_are_continued_for_each_prompt(served: Served) -> None:
    answer = await served.sdk().completions.create(model=MODEL, prompt="once upon", extra_body=scripted(text="a time"))
    assert (answer.object, answer.choices[0].text, answer.choices[0].finish_reason) == (
        "text_completion",
        "a time",
        "stop",
    )


async def test_the_models_are_listed_and_found_by_id_and_by_name(served: Served) -> None:
    models = [model async for model in served.sdk().models.list()]
    assert [model.id for model in models] == ["scripted"]
    for label in ("scripted", MODEL):
        assert (await served.sdk().models.retrieve(label)).id == "scripted"


async def test_both_names_of_a_model_generate_and_the_engine_hears_its_own(
    served: Served, engine: ScriptedServer
) -> None:
    for label in ("scripted", MODEL):
        answer = await served.sdk().chat.completions.create(model=label, messages=HELLO)
        assert answer.model == label
        assert engine.state()["requests"][-1]["body"]["model"] == "served-name"


async def test_the_sdk_retries_a_full_engine_and_succeeds(serve: Any) -> None:
    async with ScriptedServer(Options(max_running=1)) as engine:
        served = serve(engine)
        blocker = await served.raw(chat({"gap": 60}))
        await until(lambda: engine.state()["active"] == 1)
        with pytest.raises(openai.InternalServerError) as caught:
            await served.sdk(max_retries=0).chat.completions.create(model=MODEL, messages=HELLO)
        assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
        blocker.leave()
        await until(lambda: engine.state()["active"] == 0)
        assert (await served.sdk().chat.completions.create(model=MODEL, messages=HELLO)).choices


@pytest.mark.parametrize("given", [None, "trace-1.a:b", "x" * 200, "spaces are odd", "ümlaut"])
async def test_a_request_id_is_echoed_if_sane_and_issued_if_not(
    served: Served, http: aiohttp.ClientSession, given: str | None
) -> None:
    headers = {} if given is None else {"X-Request-ID": given}
    for path in ("/health", "/nothing"):
        async with http.get(served.url + path, headers=headers) as response:
            told = response.headers["x-request-id"]
            assert int(response.headers["openai-processing-ms"]) >= 0
        if given == "trace-1.a:b":
            assert told == given
        else:
            assert re.fullmatch(r"req_[0-9a-f]{32}", told)


async def test_the_sdk_finds_the_request_id(served: Served) -> None:
    answer = await served.sdk().chat.completions.create(model=MODEL, messages=HELLO)
    assert answer._request_id
    assert answer._request_id.startswith("req_")


class TestCrossOrigin:
    async def test_a_preflight_is_answered_for_every_header_that_sdks_send(
        self, served: Served, http: aiohttp.ClientSession
    ) -> None:
        wanted = "authorization,content-type,x-stainless-lang,openai-organization,idempotency-key"
        headers = {
            "Origin": "https://ui.example", "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": wanted,
        }  # fmt: skip
        async with http.options(served.url + "/v1/chat/completions", headers=headers) as response:
            assert response.status == 200
            allowed = response.headers["access-control-allow-headers"]
        assert set(wanted.split(",")) <= set(allowed.split(","))

    async def test_errors_carry_the_headers_too(self, served: Served, http: aiohttp.ClientSession) -> None:
        for path in ("/v1/chat/completions", "/nothing"):
            async with http.post(served.url + path, data=b"{", headers={"Origin": "https://ui.example"}) as response:
                assert response.status >= 400
                assert response.headers["access-control-allow-origin"] == "*"
                assert "x-ratelimit-remaining-requests" in response.headers["access-control-expose-headers"]
                assert "access-control-allow-credentials" not in response.headers

    async def test_only_configured_origins_are_allowed(
        self, serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
    ) -> None:
        settings = settings_with()
        security = settings.security.model_copy(update={"allowed_origins": ("https://mine.example",)})
        served = serve(engine, settings=settings.model_copy(update={"security": security}))
        for origin, allowed in (("https://mine.example", "https://mine.example"), ("https://other.example", None)):
            async with http.get(served.url + "/v1/models", headers={"Origin": origin}) as response:
                assert response.headers.get("access-control-allow-origin") == allowed


class TestHealth:
    async def test_health_and_readiness_have_their_shapes(self, served: Served, http: aiohttp.ClientSession) -> None:
        async with http.get(served.url + "/health") as response:
            health = await response.json()
        assert set(health) == {"status", "uptime", "timestamp"}
        assert (health["status"], health["uptime"] >= 0) == ("ok", True)
        async with http.get(served.url + "/readiness") as response:
            readiness = await response.json()
        assert set(readiness) == {"status", "models_available", "models", "timestamp"}
        assert (readiness["status"], readiness["models_available"]) == ("ready", 1)

    async def test_uptime_is_counted_from_the_start_of_serving(
        self, serve: Any, engine: ScriptedServer, clock: HandClock, http: aiohttp.ClientSession
    ) -> None:
        served = serve(engine, clock=clock)
        clock.advance(77)
        async with http.get(served.url + "/health") as response:
            assert (await response.json())["uptime"] == 77


class TestWhatReachesTheEngine:
    async def test_its_own_id_and_an_affinity_are_on_every_request(
        self, served: Served, engine: ScriptedServer
    ) -> None:
        client = served.sdk()
        for _ in range(2):
            await client.chat.completions.create(model=MODEL, messages=HELLO)
        await client.chat.completions.create(model=MODEL, messages=HELLO, prompt_cache_key="mine")
        one, two, keyed = engine.state()["requests"]
        assert len({record["rid"] for record in (one, two, keyed)}) == 3
        assert one["session"] != two["session"]
        assert keyed["session"] == "mine"

    async def test_ignored_and_unknown_fields_do_not(self, served: Served, engine: ScriptedServer) -> None:
        extra = {"wish": "a pony", "service_tier": "auto", "metadata": {"a": "b"}, "store": True, "user": "u"}
        await served.sdk().chat.completions.create(model=MODEL, messages=HELLO, seed=None, extra_body=extra)
        body = engine.state()["requests"][-1]["body"]
        assert set(body) == {"max_tokens", "messages", "model", "stream", "stream_options", "rid"}


async def test_a_reader_who_does_not_read_holds_back_only_himself(serve: Any, hand_engine: HandEngine) -> None:
    """The engine's own writes stall once the buffers between are full: nothing piles up in the application."""
    served = serve(hand_engine.url)
    slow = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    event = {"choices": [{"index": 0, "delta": {"content": "x" * 8000}, "finish_reason": None}]}
    payload = b"data: " + json.dumps(event).encode() + b"\n\n"
    pushed = 0
    with pytest.raises(TimeoutError):
        while pushed < 200_000_000:
            async with asyncio.timeout(1.0):
                await talk.say(payload * 16)
            pushed += 16 * len(payload)
    assert pushed < 40_000_000, "what the kernel's socket buffers hold, twice, and no more"
    other = asyncio.ensure_future(served.raw(chat()))
    quick = await hand_engine.next()
    await quick.begin()
    await quick.token("prompt", finish="stop")
    await quick.end()
    assert b'"prompt"' in await (await other).rest()
    slow.leave()


async def test_callers_one_after_the_other_share_a_connection_to_the_engine(
    served: Served, engine: ScriptedServer
) -> None:
    for stream in (True, False, True):
        await (await served.raw(chat({"tokens": 2}, stream=stream))).rest()
        await until(lambda: engine.state()["active"] == 0)
    assert len({record["port"] for record in engine.state()["requests"]}) == 1


async def test_an_engine_that_ends_its_response_late_keeps_its_connection(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("x", finish="stop")
    await talk.say(b"data: [DONE]\n\n")
    await response.until(b"[DONE]")  # the caller is not kept waiting for it
    with pytest.raises(TimeoutError):
        await until(talk.closed.is_set, seconds=0.05)
    await talk.end(done=False)


async def test_what_follows_a_comment_that_is_being_sent_waits_for_it() -> None:
    """Under Modal's bridge a send can take its time, and two at once would change places."""
    sent: list[bytes] = []
    gate = asyncio.Event()

    async def send(message: Any) -> None:
        await gate.wait()
        sent.append(message.get("body", b"start"))

    response = StreamingResponse(send)
    comment = asyncio.create_task(response.comment("booting"))
    await asyncio.sleep(0)
    write = asyncio.create_task(response.end(b"data"))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(comment, write)
    await response.comment("never after the end")
    assert sent == [b"start", b": booting\n\n", b"data"]


async def test_many_streams_at_once_keep_their_own_words(served: Served, engine: ScriptedServer) -> None:
    client = served.sdk()

    async def one(number: int) -> bool:
        text = " ".join(f"w{number}-{index}" for index in range(20))
        stream = await client.chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, extra_body=scripted(text=text, gap=0.005)
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == text

    assert all(await asyncio.gather(*(one(number) for number in range(32))))
    assert engine.state()["finished"] == 32


def test_an_engines_credentials_are_not_in_its_repr() -> None:
    target = EngineTarget(url="http://x", kind="sglang", model="m", headers={"Modal-Secret": "ws-secret"})
    assert "ws-secret" not in repr(target)


async def test_the_document_describes_every_route(served: Served, http: aiohttp.ClientSession) -> None:
    async with http.get(served.url + "/openapi.json") as response:
        document = await response.json()
    assert set(document["paths"]) >= {
        "/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/{model}", "/health", "/readiness",
        "/models", "/models/{model}", "/models/{model}/load", "/models/{model}/unload", "/metrics",
        "/v1/responses", "/v1/responses/input_tokens", "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/cancel", "/v1/responses/{response_id}/input_items",
        "/v1/messages", "/v1/messages/count_tokens",
    }  # fmt: skip
    text = json.dumps(document)
    for name in re.findall(r'"#/components/schemas/([\w.]+)"', text):
        assert name in document["components"]["schemas"]
    assert "messages" in document["components"]["schemas"]["openai.ChatRequest"]["required"]
