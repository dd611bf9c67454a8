"""What /metrics tells is what happened: exactly as many, no raw path or key in a label, and nothing left behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from infra.metric_families import FAMILIES, GAPS
from infra.settings import Limits, Model, Models, Observability, Settings
from tests.web.conftest import MODEL, chat, settings_with, until

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(served: Served, http: aiohttp.ClientSession, **headers: str) -> Samples:
    async with http.get(served.url + "/metrics", headers=headers) as response:
        assert response.status == 200
        text = await response.text()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


def of(samples: Samples, name: str) -> float:
    """The one model's."""
    return value(samples, name, model="scripted")


async def test_every_name_is_there_before_any_request(served: Served, http: aiohttp.ClientSession) -> None:
    async with http.get(served.url + "/metrics") as response:
        families = {family.name: family for family in parse_text(await response.text())}
    for expected in FAMILIES:
        family = families[expected.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (expected.kind, expected.text)


async def test_what_is_asked_for_openmetrics_gets_it(served: Served, http: aiohttp.ClientSession) -> None:
    await (await served.raw(chat({"tokens": 2}))).rest()
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    async with http.get(served.url + "/metrics", headers={"Accept": accept}) as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        names = {family.name for family in parse_openmetrics(await response.text())}
    assert "chat_completions_requests" in names
    async with http.get(served.url + "/metrics") as response:
        assert response.headers["content-type"].startswith("text/plain")


async def test_counts_are_exactly_what_was_sent(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine)
    for tokens in (1, 5, 20):
        for stream in (True, False):
            await (await served.raw(chat({"tokens": tokens, "prompt_tokens": 7}, stream=stream))).rest()
    text = {"model": MODEL, "prompt": "a b", "x_scripted": {"tokens": 4, "prompt_tokens": 2, "cached_tokens": 1}}
    await (await served.raw(text, "/v1/completions")).rest()
    samples = await scrape(served, http)
    assert of(samples, "chat_completions_requests_total") == 6
    assert of(samples, "chat_generated_tokens_total") == 2 * (1 + 5 + 20)
    assert of(samples, "completions_requests_total") == 1
    assert of(samples, "completions_tokens_total") == 4
    assert of(samples, "generation_tokens_total") == 2 * 26 + 4
    assert of(samples, "prompt_tokens_total") == 6 * 7 + 2
    assert of(samples, "cached_tokens_total") == 1
    assert of(samples, "prefix_cache_hits_total") == 1
    assert of(samples, "time_to_first_token_seconds_count") == 7
    assert of(samples, "e2e_request_latency_seconds_count") == 7
    assert of(samples, "chat_inference_duration_seconds_count") == 6
    assert of(samples, "completions_duration_seconds_count") == 1
    assert of(samples, "inter_token_latency_seconds_count") == 2 * (4 + 19) + 3
    assert of(samples, "chat_tokens_per_second_count") <= 4, "an answer of one token has no rate"
    assert not [key for key in samples if key[0].endswith("completions_errors_total")]
    route = "/v1/chat/completions"
    assert value(samples, "http_requests_total", route=route, method="POST", status="200") == 6
    assert value(samples, "http_requests_total", route="/v1/completions", method="POST", status="200") == 1


async def test_routes_are_counted_by_their_templates(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine)
    for path in ("/health", "/readiness", "/readiness", "/v1/models", "/models", "/v1/models/" + MODEL,
                 "/models/scripted", "/v1/models/none", "/no/such/path", "/another"):  # fmt: skip
        async with http.get(served.url + path):
            pass
    async with http.request("PROPFIND", served.url + "/health"):
        pass
    await (await served.raw(b"{}")).rest()
    samples = await scrape(served, http)
    assert value(samples, "health_check_requests_total") == 1
    assert value(samples, "readiness_check_requests_total") == 2
    assert value(samples, "models_list_requests_total") == 2
    assert value(samples, "model_info_requests_total") == 3
    requests = {key[1]: count for key, count in samples.items() if key[0] == "http_requests_total"}
    labels = [dict(key) for key in requests]
    assert {label["route"] for label in labels} == {
        "/health", "/readiness", "/v1/models", "/models", "/v1/models/{model}", "/models/{model}", "other",
        "/v1/chat/completions",
    }  # fmt: skip
    assert {label["method"] for label in labels} == {"GET", "POST", "other"}
    assert value(samples, "http_requests_total", route="other", method="GET", status="404") == 2
    assert value(samples, "http_requests_total", route="/v1/chat/completions", method="POST", status="400") == 1
    assert sum(requests.values()) == 12


async def test_no_label_holds_what_a_caller_said(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine)
    secret = "sk-visible-0123456789"
    body = chat({"tokens": 1}, user=secret, prompt_cache_key=secret)
    await (
        await served.raw(body, "/v1/chat/completions?session_id=" + secret, "Authorization: Bearer " + secret)
    ).rest()
    await (await served.raw(body | {"model": secret})).rest()
    async with http.get(served.url + "/" + secret):
        pass
    async with http.get(served.url + "/metrics") as response:
        assert secret not in await response.text()
    samples = await scrape(served, http)
    assert value(samples, "chat_completions_errors_total", model="unknown", status="404") == 1


async def test_errors_are_counted_by_status_and_leavers_apart(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine)
    bad = {"error_after": 0, "error_status": 400, "tokens": 1}
    scripts: list[tuple[Json, bool]] = [
        (bad, True), (bad, False),
        ({"error_after": 3, "tokens": 9}, True), ({"cut_after": 3, "tokens": 9}, False),
    ]  # fmt: skip
    for script, stream in scripts:
        await (await served.raw(chat(script, stream=stream))).rest()
    for stream in (True, False):
        response = await served.raw(chat({"gap": 60}, stream=stream))
        await until(lambda: engine.state()["active"] == 1)
        if stream:
            await response.until(b"data:")
        response.leave()
        await until(lambda: engine.state()["active"] == 0)
    samples = await scrape(served, http)
    assert of(samples, "chat_completions_requests_total") == 6
    assert value(samples, "chat_completions_errors_total", model="scripted", status="400") == 2
    assert value(samples, "chat_completions_errors_total", model="scripted", status="502") == 2
    assert of(samples, "requests_cancelled_total") == 2
    assert of(samples, "e2e_request_latency_seconds_count") == 0
    generated = of(samples, "chat_generated_tokens_total")  # the last one's token may not have come yet
    assert 3 + 3 + 1 <= generated <= 3 + 3 + 1 + 1, "what was generated counts, answer or not"
    for gauge in ("requests_running", "requests_waiting", "requests_waiting_for_boot"):
        assert of(samples, gauge) == 0


async def test_the_time_between_tokens_is_each_gap_and_not_their_mean(
    serve: Any, hand_engine: HandEngine, clock: HandClock, http: aiohttp.ClientSession
) -> None:
    served = serve(hand_engine.url, clock=clock, web={"write_timeout": 1000.0, "heartbeat_interval": 15})
    response = await served.raw(chat())
    talk = await hand_engine.next()
    clock.advance(1.5)
    await talk.begin()
    for number, gap in enumerate((0.0, 0.004, 0.004, 0.9)):
        clock.advance(gap)
        await talk.token(f"word{number}")
        await response.until(f'"word{number}"'.encode())
    await talk.token("", finish="stop")
    await talk.end()
    await response.rest()
    samples = await scrape(served, http)
    below = {
        bound: value(samples, "inter_token_latency_seconds_bucket", le=str(bound), model="scripted") for bound in GAPS
    }
    assert (below[0.0025], below[0.005], below[0.5], below[1.0]) == (0, 2, 2, 3)
    assert of(samples, "inter_token_latency_seconds_sum") == pytest.approx(0.908)
    assert of(samples, "time_to_first_token_seconds_sum") == pytest.approx(1.5)
    assert of(samples, "chat_tokens_per_second_sum") == pytest.approx(3 / 0.908)


async def test_gauges_tell_where_requests_are(
    serve: Any, hand_engine: HandEngine, clock: HandClock, http: aiohttp.ClientSession
) -> None:
    models = Models(available_models=(Model(id="scripted", name=MODEL),), max_concurrent_requests=2)
    served = serve(hand_engine.url, clock=clock, settings=Settings(models=models))

    async def places() -> tuple[float, ...]:
        samples = await scrape(served, http)
        return tuple(of(samples, f"requests_{place}") for place in ("running", "waiting", "waiting_for_boot"))

    running = await served.raw(chat())
    talk = await hand_engine.next()
    assert await places() == (0, 1, 0)
    await talk.begin()
    await talk.token("x")
    await running.until(b'"x"')
    assert await places() == (1, 0, 0)
    booting = await served.raw(chat())
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    await booting.until(b": booting")
    assert await places() == (1, 0, 1)
    queued = await served.raw(chat())
    await until(lambda: sum(seconds > 3000 for seconds in clock.pending()) == 3)  # each request's deadline
    assert await places() == (1, 1, 1)
    for response in (queued, booting, running):
        response.leave()
    await until(lambda: not clock.pending())
    assert await places() == (0, 0, 0)
    samples = await scrape(served, http)
    assert of(samples, "requests_cancelled_total") == 3, "wherever they were when they left"
    assert of(samples, "chat_completions_requests_total") == 3


async def test_the_history_s_requests_are_counted_whatever_they_do(served: Served, http: aiohttp.ClientSession) -> None:
    for method in ("GET", "DELETE"):
        async with http.request(method, served.url + "/chat/history/nobody-s"):
            pass
    async with http.post(served.url + "/chat/history/nobody-s/rollback", json={}):
        pass
    samples = await scrape(served, http)
    assert value(samples, "history_requests_total") == 3
    routes = {dict(key[1])["route"] for key in samples if key[0] == "http_requests_total"}
    assert routes == {"/chat/history/{session_id}", "/chat/history/{session_id}/rollback"}


async def test_the_rate_limit_s_decisions_are_counted(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(
        engine, settings=Settings(models=settings_with().models, limits=Limits(default_rate_limit_per_minute=2))
    )
    for status in (200, 200, 429, 429, 429):
        response = await served.raw(chat({"tokens": 1}))
        assert (await response.head())[0] == status
        await response.rest()
    samples = await scrape(served, http)
    assert (value(samples, "rate_limit_allowed_total"), value(samples, "rate_limit_blocked_total")) == (2, 3)
    assert of(samples, "chat_completions_requests_total") == 2


async def test_a_boot_is_measured_once_however_many_wait_for_it(
    serve: Any, hand_engine: HandEngine, clock: HandClock, http: aiohttp.ClientSession
) -> None:
    served = serve(hand_engine.url, clock=clock)
    responses = [await served.raw(chat()) for _ in range(2)]
    for _ in responses:
        await (await hand_engine.next()).answer(503, b"modal-http: no container")
    for response in responses:
        await response.until(b": booting")
    clock.advance(20)
    for _ in responses:
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("x", finish="stop")
        await talk.end()
    for response in responses:
        assert b"[DONE]" in await response.rest()
    samples = await scrape(served, http)
    assert of(samples, "cold_start_seconds_count") == 1
    assert of(samples, "cold_start_seconds_sum") == pytest.approx(20)
    assert of(samples, "cold_start_requests_total") == 2


async def test_metrics_are_where_the_configuration_says_or_nowhere(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    models = settings_with().models
    elsewhere = serve(engine, settings=Settings(models=models, observability=Observability(metrics_path="/internal/m")))
    off = serve(engine, settings=Settings(models=models, observability=Observability(enable_metrics=False)))
    for served, path, status in ((elsewhere, "/internal/m", 200), (elsewhere, "/metrics", 404), (off, "/metrics", 404)):
        async with http.get(served.url + path) as response:
            assert response.status == status
            if status == 404:
                assert (await response.json())["error"]["code"] == "unknown_url"


async def test_each_application_counts_for_itself(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    one, other = serve(engine), serve(engine)
    await (await one.raw(chat({"tokens": 1}))).rest()
    assert of(await scrape(one, http), "chat_completions_requests_total") == 1
    assert of(await scrape(other, http), "chat_completions_requests_total") == 0
