"""One trace holds the caller's span, the request, the call of the engine, and what that makes of it. Collected by a
receiver that speaks OTLP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes, http_attributes
from opentelemetry.semconv.attributes import error_attributes

from functions.state import tracing_of
from infra.settings import Observability, Settings
from tests.configured_engines import ConfiguredEngines
from tests.web.batch_kit import CHAT, become, begun, lines, request
from tests.web.collector import Collector
from tests.web.conftest import MODEL, chat, running, settings_with, target_of, until
from tests.web.log_kit import logged
from tests.web.socket_kit import connected, prompt
from web.application import Services, create_application

if TYPE_CHECKING:
    from collections.abc import Iterator

    import aiohttp
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
KNOWN = {
    value
    for module in (gen_ai_attributes, http_attributes, error_attributes)
    for value in vars(module).values()
    if isinstance(value, str)
}
"""The names of attributes that the conventions have, as their package lists them."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as receiver:
        yield receiver


@contextlib.contextmanager
def traced(engine: ScriptedServer | str, url: str, loop: asyncio.AbstractEventLoop, **more: Any) -> Iterator[Served]:
    """The application; once it has ended, all that was recorded has been sent."""
    observability = Observability(otlp_endpoint=url, **more)
    settings = settings_with().model_copy(update={"observability": observability})
    engines = ConfiguredEngines(settings.models, {"scripted": target_of(engine)})
    services = Services(settings=settings, engines=engines, tracing=tracing_of(settings))
    with running(create_application(services), loop) as served:
        yield served


def told(span: Span) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in span.attributes}


async def test_the_trace_of_the_caller_goes_on_through_the_service_to_the_engine(
    collector: Collector, web_loop: asyncio.AbstractEventLoop, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "vendor=1", "x-request-id": "mine"}
    body = chat(messages=[{"role": "user", "content": "canary-prompt"}], temperature=0.5, stop=["canary-stop"])
    with traced(hand_engine.url, collector.url, web_loop) as served:
        asking = asyncio.create_task(http.post(served.url + "/v1/chat/completions", json=body, headers=headers))
        conversation = await hand_engine.next()
        await conversation.begin()
        for word in ("canary-answer", "b"):
            await conversation.token(word)
        await conversation.token("", finish="stop")
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
        await conversation.event({"choices": [], "usage": usage})
        await conversation.end()
        await (await asking).read()

    call, request = collector.spans[f"chat {MODEL}"], collector.spans["POST /v1/chat/completions"]
    assert {span.trace_id.hex() for span in collector.spans.values()} == {TRACE}
    assert request.parent_span_id.hex() == CALLER
    assert call.parent_span_id == request.span_id
    assert conversation.headers["traceparent"] == f"00-{TRACE}-{call.span_id.hex()}-01"
    assert conversation.headers["tracestate"] == "vendor=1"
    assert (request.kind, call.kind) == (request.SPAN_KIND_SERVER, call.SPAN_KIND_CLIENT)
    assert collector.service == "llm"

    parts = {"queue": request, "prefill": call, "decode": call}
    assert set(collector.spans) == {*parts, call.name, request.name}
    for name, parent in parts.items():
        part = collector.spans[name]
        assert part.parent_span_id == parent.span_id
        assert request.start_time_unix_nano <= part.start_time_unix_nano <= part.end_time_unix_nano
        assert part.end_time_unix_nano <= request.end_time_unix_nano
    assert collector.spans["prefill"].end_time_unix_nano == collector.spans["decode"].start_time_unix_nano

    said = told(call)
    seconds = said.pop("gen_ai.response.time_to_first_chunk")
    assert 0 < seconds < 20
    assert said == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted", "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True, "gen_ai.response.id": conversation.json["rid"],
        "gen_ai.request.temperature": 0.5, "gen_ai.request.max_tokens": conversation.json["max_tokens"],
        "gen_ai.usage.input_tokens": 7, "gen_ai.usage.output_tokens": 2, "gen_ai.usage.cache_read.input_tokens": 4,
    }  # fmt: skip
    asked = told(request)
    assert asked.pop("llm.request.id") == "mine"
    assert asked == {
        "http.request.method": "POST", "http.route": "/v1/chat/completions", "http.response.status_code": 200,
    }  # fmt: skip
    assert {*said, *asked} <= KNOWN
    assert b"canary" not in collector.raw


@pytest.mark.slow
async def test_a_cold_start_is_a_span_also_where_the_caller_does_not_wait_for_its_end(
    collector: Collector, web_loop: asyncio.AbstractEventLoop
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        engine = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with traced(engine, collector.url, web_loop) as served, logged() as log:
        caller = await served.raw(chat())
        await caller.until(b": booting")
        caller.leave()
        await until(lambda: log.lines("web.access"))
    call = collector.spans[f"chat {MODEL}"]
    assert collector.spans["boot"].parent_span_id == call.span_id
    assert told(collector.spans["POST /v1/chat/completions"])["http.response.status_code"] == 200
    assert {"prefill", "decode"}.isdisjoint(collector.spans)


@pytest.mark.slow
async def test_each_answer_over_a_websocket_is_a_request_of_the_trace_and_probes_are_none(
    collector: Collector, web_loop: asyncio.AbstractEventLoop, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    with traced(engine, collector.url, web_loop) as served:
        await (await http.get(served.url + "/health")).read()
        headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
        async with connected(served, "?events=1", additional_headers=headers) as client:
            await client.say(prompt({"tokens": 2, "gap": 0}))
            while (await client.told())["type"] != "end":
                pass
    assert set(collector.spans) == {"WEBSOCKET /chat/ws", f"chat {MODEL}", "queue", "prefill", "decode"}
    assert {span.trace_id.hex() for span in collector.spans.values()} == {TRACE}


@pytest.mark.slow
@pytest.mark.parametrize("recorded", [True, False])
async def test_each_line_of_a_batch_is_a_trace_that_is_linked_to_the_request_which_made_the_batch(
    collector: Collector, web_loop: asyncio.AbstractEventLoop, engine: ScriptedServer, recorded: bool
) -> None:
    parent = {"traceparent": f"00-{TRACE}-{CALLER}-0{int(recorded)}"}
    with traced(engine, collector.url, web_loop) as served:
        async with served.sdk() as sdk:
            asked = lines([request("a"), request("b"), request("wrong", temperature="hot")])
            batch = await become(sdk, (await begun(sdk, asked, extra_headers=parent)).id)
            assert batch.status == "completed"
    spans = collector.named(f"POST {CHAT}")
    assert len({span.trace_id for span in spans}) == 3
    made = [(span.trace_id, span.span_id) for span in collector.named("POST /v1/batches")]
    assert len(made) == recorded
    for span in spans:
        assert [(link.trace_id, link.span_id) for link in span.links] == made
        assert not span.parent_span_id
        assert told(span)["llm.batch.id"] == batch.id
    assert sorted(told(span)["http.response.status_code"] for span in spans) == [200, 200, 400]
    calls = {span.trace_id: span.parent_span_id for span in collector.named(f"chat {MODEL}")}
    assert calls == {span.trace_id: span.span_id for span in spans if told(span)["http.response.status_code"] == 200}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parent", "ratio", "sampled", "same"),
    [
        (f"00-{TRACE}-{CALLER}-00", 1.0, False, True),  # the caller does not want it recorded
        (f"00-{TRACE}-{CALLER}-01", 0.0, True, True),  # the caller wants it recorded
        ("00-nonsense", 1.0, True, False),
        (None, 0.0, False, False),
    ],
)
async def test_what_is_recorded_is_the_callers_to_say_else_the_ratios(
    collector: Collector, web_loop: asyncio.AbstractEventLoop, engine: ScriptedServer, http: aiohttp.ClientSession,
    parent: str | None, ratio: float, sampled: bool, same: bool,
) -> None:  # fmt: skip
    headers = {} if parent is None else {"traceparent": parent}
    with traced(engine, collector.url, web_loop, trace_sample_ratio=ratio) as served:
        async with http.post(served.url + "/v1/chat/completions", json=chat({"tokens": 1}), headers=headers) as answer:
            await answer.read()
    assert bool(collector.spans) is sampled
    if sampled:
        assert ({span.trace_id.hex() for span in collector.spans.values()} == {TRACE}) is same


def test_there_are_none_unless_they_are_asked_for() -> None:
    assert tracing_of(Settings()) is None
    assert tracing_of(Settings(observability=Observability(otlp_endpoint="http://c", enable_tracing=False))) is None


@pytest.mark.slow
async def test_a_collector_that_is_not_there_costs_no_request_and_the_end_a_few_seconds(
    web_loop: asyncio.AbstractEventLoop, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    with traced(engine, url, web_loop) as served:
        for _ in range(3):
            async with http.post(served.url + "/v1/chat/completions", json=chat({"tokens": 1})) as answer:
                assert answer.status == 200
                await answer.read()
