"""Every error of every route is OpenAI's object, nested, and names what is at fault."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.web.conftest import MODEL, chat
from web.dialects.openai import parse_chat
from web.errors import InvalidRequest, to_wire

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from web.engines import EngineTarget

USER = {"role": "user", "content": "hi"}


def error_of(text: str) -> Json:
    """The error in a body, which must be exactly OpenAI's."""
    body = json.loads(text)
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    error: Json = body["error"]
    assert isinstance(error["message"], str)
    assert error["message"]
    return error


MISTAKES: dict[str, tuple[Json, str, str]] = {
    "no model": ({"messages": [USER]}, "model", "missing_required_parameter"),
    "null model": ({"model": None, "messages": [USER]}, "model", "invalid_type"),
    "no messages": ({"model": MODEL}, "messages", "missing_required_parameter"),
    "empty messages": ({"messages": []}, "messages", "invalid_value"),
    "messages of the wrong type": ({"messages": "hi"}, "messages", "invalid_type"),
    "a message that is no object": ({"messages": ["hi"]}, "messages[0]", "invalid_type"),
    "no role": ({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter"),
    "unknown role": ({"messages": [USER, {"role": "usr", "content": "x"}]}, "messages[1].role", "invalid_value"),
    "user without content": ({"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
    "null content": ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "invalid_type"),
    "numeric content": ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type"),
    "unknown part": (
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        "messages[0].content[0].type", "invalid_value",
    ),
    "part without text": (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text", "missing_required_parameter",
    ),
    "tool message without id": (
        {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id", "missing_required_parameter",
    ),
    "temperature as text": ({"temperature": "1"}, "temperature", "invalid_type"),
    "temperature too high": ({"temperature": 2.1}, "temperature", "invalid_value"),
    "top_p below zero": ({"top_p": -0.1}, "top_p", "invalid_value"),
    "max_tokens zero": ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    "max_tokens as a fraction": ({"max_tokens": 1.5}, "max_tokens", "invalid_type"),
    "n zero": ({"n": 0}, "n", "invalid_value"),
    "n as a boolean": ({"n": True}, "n", "invalid_type"),
    "stop of five": ({"stop": list("abcde")}, "stop", "invalid_value"),
    "stop of numbers": ({"stop": [1]}, "stop[0]", "invalid_type"),
    "stream as text": ({"stream": "yes"}, "stream", "invalid_type"),
    "top_logprobs alone": ({"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    "top_logprobs of 21": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    "logit_bias too strong": ({"logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value"),
    "tool without a name": (
        {"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name", "missing_required_parameter",
    ),
    "tool_choice without tools": ({"tool_choice": "required"}, "tool_choice", "invalid_value"),
    "unknown response_format": ({"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    "schema without a schema": (
        {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "missing_required_parameter",
    ),
    "functions": ({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter"),
    "audio": ({"modalities": ["audio"]}, "modalities", "unsupported_value"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "param", "code"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_a_chat_request_names_its_parameter(body: Json, param: str, code: str) -> None:
    """Without a socket, which would add nothing: the route does no more than parse."""
    sound = {"model": MODEL, "messages": [USER]}
    full = sound | body
    if code == "missing_required_parameter" and param in sound:
        del full[param]
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(json.dumps(full).encode())
    error = to_wire(caught.value)
    assert (error.status, error.type, error.param, error.code) == (400, "invalid_request_error", param, code)
    assert param in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b'"text"', b"\xff\xfe", b"null", b'{"model": NaN}'])
async def test_a_body_that_is_no_json_object_is_a_400(served: Served, http: aiohttp.ClientSession, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        async with http.post(served.url + path, data=body) as response:
            assert response.status == 400
            assert error_of(await response.text())["code"] == "invalid_json"


async def test_the_sdk_sees_message_param_and_code(served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await served.sdk().chat.completions.create(model=MODEL, messages=[], temperature=0)
    assert (caught.value.param, caught.value.code) == ("messages", "invalid_value")
    assert "messages" in caught.value.message


async def test_an_unknown_model_is_not_found(served: Served, http: aiohttp.ClientSession) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        await served.sdk().chat.completions.create(model="no/such", messages=[{"role": "user", "content": "x"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    async with http.get(served.url + "/v1/models/no/such") as response:
        assert (response.status, error_of(await response.text())["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/nothing", 404, "unknown_url"),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("DELETE", "/v1/completions", 405, "method_not_supported"),
        ("POST", "/v1/models", 405, "method_not_supported"),
        ("PUT", "/health", 405, "method_not_supported"),
        ("GET", "/chat/ws", 426, "upgrade_required"),
    ],
)
async def test_routing_errors_are_nested_too(
    served: Served, http: aiohttp.ClientSession, method: str, path: str, status: int, code: str
) -> None:
    async with http.request(method, served.url + path, json={}) as response:
        assert (response.status, error_of(await response.text())["code"]) == (status, code)
        assert ("allow" in response.headers) == (status == 405)


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_read(
    serve: Any, engine: ScriptedServer
) -> None:
    served = serve(engine, web={"max_body_bytes": 4096})
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n")
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
    assert b"413" in head.splitlines()[0]
    writer.transport.abort()


async def test_a_body_that_grows_too_large_is_refused_while_it_comes(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, web={"max_body_bytes": 4096})

    async def endless() -> Any:
        for _ in range(100):
            yield b" " * 1000

    async with http.post(served.url + "/v1/chat/completions", data=endless()) as response:
        assert response.status == 413
        assert error_of(await response.text())["code"] == "request_too_large"
    assert engine.state()["started"] == 0


async def test_a_body_of_just_the_limit_is_taken(serve: Any, engine: ScriptedServer) -> None:
    served = serve(engine, web={"max_body_bytes": 4096})
    body = json.dumps(chat()).encode().ljust(4096)
    response = await served.raw(body)
    assert (await response.head())[0] == 200


async def test_what_nobody_expected_is_a_500_that_tells_nothing(serve: Any, http: aiohttp.ClientSession) -> None:
    class Broken:
        def resolve(self, label: str) -> EngineTarget:
            raise KeyError(f"secret detail of {label}")

    served = serve("http://127.0.0.1:1", engines=Broken())
    async with http.post(served.url + "/v1/chat/completions", json=chat()) as response:
        text = await response.text()
    assert (response.status, error_of(text)["code"]) == (500, "internal_error")
    assert "secret" not in text
