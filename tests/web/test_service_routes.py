"""`/completions` and `/chat/completions` without the prefix: whose body it is, and the service's own answers."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from infra.settings import Model, Models, Settings
from tests.web.conftest import MODEL, chat, payloads, until

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine


def own(script: Json | None = None, **more: Any) -> Json:
    return {"model-name": MODEL, "prompt": "one two three", "x_scripted": script or {}, **more}


async def events_of(served: Served, body: Json, path: str = "/chat/completions") -> list[tuple[str, str]]:
    """The events that a real SSE client reads."""
    async with httpx2.AsyncClient() as client, client.sse(served.url + path, method="POST", json=body) as source:
        assert source.response.status_code == 200
        return [(event.event, event.data) async for event in source]


OPENAI_TEXT = {"model": MODEL, "prompt": "one two three", "max_tokens": 2, "n": 1}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions"])
async def test_messages_are_answered_as_openai_answers(served: Served, http: aiohttp.ClientSession, path: str) -> None:
    async with http.post(served.url + path, json=chat({"tokens": 2}, stream=False)) as response:
        answer = await response.json()
    assert answer["choices"][0]["message"]["content"] == "t0 t1 "
    async with http.post(served.url + path, json=chat({"tokens": 2})) as response:
        assert payloads(await response.text())[-1] == "[DONE]"


async def test_a_prompt_is_refused_where_only_messages_are_taken(served: Served, http: aiohttp.ClientSession) -> None:
    async with http.post(served.url + "/v1/chat/completions", json=own()) as response:
        assert (response.status, (await response.json())["error"]["type"]) == (400, "invalid_request_error")


async def test_a_prompt_is_always_answered_by_a_stream_of_its_text(served: Served) -> None:
    for more in ({}, {"stream": True}):
        told = await events_of(served, own({"tokens": 3}, **more))
        assert told == [("message", "t0 "), ("message", "t1 "), ("message", "t2 "), ("done", "")]


@pytest.mark.parametrize("path", ["/v1/completions", "/completions"])
async def test_a_completion_with_a_field_of_openais_is_answered_as_openai_answers(
    served: Served, http: aiohttp.ClientSession, path: str
) -> None:
    async with http.post(served.url + path, json=OPENAI_TEXT) as response:
        assert (await response.json())["choices"][0]["text"] == "t0 t1 "


async def test_a_completion_is_the_services_own_without_one(served: Served, http: aiohttp.ClientSession) -> None:
    body = {"model": MODEL, "prompt": "one two", "max_tokens": 2}
    async with http.post(served.url + "/completions", json=body) as response:
        answer = await response.json()
    assert set(answer) == {"text", "model", "tokens", "duration_seconds", "tokens_per_second"}
    assert (answer["text"], answer["model"], answer["tokens"]) == ("t0 t1 ", MODEL, 2)
    assert answer["tokens_per_second"] == pytest.approx(2 / answer["duration_seconds"], rel=0.01)
    told = await events_of(served, {**body, "stream": True}, "/completions")
    assert told == [("message", "t0 "), ("message", "t1 "), ("done", "")]
    async with http.post(served.url + "/v1/completions", json=body) as response:
        assert "choices" in await response.json()


async def test_text_with_newlines_and_spaces_arrives_as_it_is(served: Served) -> None:
    text = " leading, \n\n  indented\n:colon data: x\n\ttab\u2028line\x85 \U0001f999\n"
    told = await events_of(served, own({"text": text}))
    assert "".join(data for event, data in told if event == "message") == text
    assert told[-1] == ("done", "")


async def test_the_end_tells_what_it_cost_to_those_who_ask(served: Served) -> None:
    *_, (event, data) = await events_of(served, own({"tokens": 5, "cached_tokens": 1}, events=True))
    told = json.loads(data)
    assert event == "done"
    assert (told["tokens"], told["prompt_tokens"], told["cached_tokens"]) == (5, 3, 1)
    assert told["finish_reason"] == "stop"


@pytest.mark.parametrize("path", ["/completions", "/chat/completions"])
@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b"{}", 400, "missing_required_parameter"),
        (json.dumps(own(temperature="hot")).encode(), 400, "invalid_type"),
        (json.dumps({**own(), "model": "another"}).encode(), 400, "invalid_value"),
        (json.dumps({"model": "no/such", "prompt": "x"}).encode(), 404, "model_not_found"),
        (json.dumps({"model": "no/such", "prompt": "x", "n": 1, "messages": []}).encode(), 400, None),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told_as_a_nested_error(
    served: Served, http: aiohttp.ClientSession, path: str, body: bytes, status: int, code: str | None
) -> None:
    if code is None and path == "/completions":
        status, code = 404, "model_not_found"
    async with http.post(served.url + path, data=body) as response:
        error = (await response.json())["error"]
        assert response.status == status
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == (code or "invalid_value")


async def test_a_body_that_is_too_large_and_a_method_that_is_not_there(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, web={"max_body_bytes": 1024})
    async with http.post(served.url + "/completions", json=own(stop="x" * 2000)) as response:
        assert response.status == 413
    async with http.get(served.url + "/chat/completions") as response:
        assert response.status == 405
        assert "POST" in response.headers["allow"]


async def test_an_engine_that_dies_in_mid_stream_is_an_event_named_error(served: Served) -> None:
    *told, (event, data) = await events_of(served, own({"cut_after": 2}))
    assert told == [("message", "t0 "), ("message", "t1 ")]
    assert event == "error"
    assert json.loads(data)["error"]["code"] == "engine_died"


async def test_an_engine_that_refuses_is_a_status(served: Served, http: aiohttp.ClientSession) -> None:
    script = {"error_after": 0, "error_status": 400}
    async with http.post(served.url + "/chat/completions", json=own(script)) as response:
        assert (response.status, "error" in await response.json()) == (400, True)


async def test_a_stream_lives_while_the_engine_boots(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    response = await served.raw(own(), "/chat/completions")
    await (await hand_engine.next()).answer(503, b"modal-http: no container")
    await response.until(b"\r\n\r\n")
    await response.until(b": booting")
    response.leave()


@pytest.mark.parametrize("path", ["/completions", "/chat/completions"])
@pytest.mark.parametrize("script", [{"ttft": 60}, {"gap": 60}])
async def test_leaving_frees_the_engine(served: Served, engine: ScriptedServer, path: str, script: Json) -> None:
    response = await served.raw(own(script), path)
    await until(lambda: engine.state()["active"] == 1)
    response.leave()
    await until(lambda: engine.state()["active"] == 0)
    assert engine.state()["aborted"] == 1


async def test_a_device_that_is_not_there_falls_back_with_a_warning(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model(id="scripted", name=MODEL, device="cpu")
    served = serve(engine, settings=Settings(models=Models(available_models=(model,))))
    for path in ("/completions", "/chat/completions"):
        for device, warned in ((None, False), ("cpu", False), ("cuda", True), ("metal", True)):
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                async with http.post(served.url + path, json=own({"tokens": 1}, device=device)) as response:
                    assert response.status == 200
                    assert response.headers["x-device"] == "cpu"
                    assert ("warning" in response.headers) == warned
            assert (f"'{device}' is not there" in caplog.text) == warned
    caplog.clear()
    async with http.post(served.url + path, json=own({"tokens": 1}, device="cuda")) as response:
        assert "warning" in response.headers
    assert "is not there" not in caplog.text, "the log has said so already"


async def test_a_model_on_a_gpu_is_told_to_be_there(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    model = Model(id="scripted", name=MODEL, device="cuda")
    served = serve(engine, settings=Settings(models=Models(available_models=(model,))))
    page = {"Origin": "https://ui.example"}
    async with http.post(served.url + "/completions", json=own({"tokens": 1}, device="cpu"), headers=page) as response:
        assert response.headers["x-device"] == "cuda"
        assert {"x-device", "warning"} <= set(response.headers["access-control-expose-headers"].split(", "))
        assert "'cpu' is not there" in response.headers["warning"]


async def test_the_unprefixed_paths_are_described(served: Served, http: aiohttp.ClientSession) -> None:
    async with http.get(served.url + "/openapi.json") as response:
        document = await response.json()
    for path in ("/completions", "/chat/completions"):
        operation = document["paths"][path]["post"]
        own, _ = operation["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
        schema = document["components"]["schemas"][own["$ref"].rpartition("/")[2]]
        assert {"max_tokens", "max-token", "model-name", "repeat-penalty"} <= set(schema["properties"])
        assert {"200", "400", "404", "409", "413", "429", "503"} <= set(operation["responses"])
    for path in ("/sessions", "/chat/history/{session_id}", "/chat/history/{session_id}/rollback"):
        for operation in document["paths"][path].values():
            assert {"401", "500", "503"} <= set(operation["responses"])
            assert "422" not in operation["responses"], "FastAPI's own error is not ours"
