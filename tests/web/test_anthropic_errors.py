"""Every failure on Anthropic's routes is told in Anthropic's words, and raised by its SDK as what it is."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from infra.settings import Limits, Security
from tests.web.conftest import MODEL, settings_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import aiohttp
    from anthropic.types import MessageParam, ToolParam

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served

pytestmark = pytest.mark.slow

HELLO: list[MessageParam] = [{"role": "user", "content": "hello there"}]
LOOK: ToolParam = {"name": "look", "input_schema": {"type": "object"}}

Sdk = Any


@pytest.fixture
async def sdk() -> AsyncIterator[Sdk]:
    """`sdk(served)` -> a client, closed at the end."""
    async with contextlib.AsyncExitStack() as stack:

        def make(served: Served, key: str = "none") -> anthropic.AsyncAnthropic:
            plain = anthropic.DefaultAsyncHttpxClient(verify=False)  # certificates take 50 ms to load
            client = anthropic.AsyncAnthropic(base_url=served.url, api_key=key, max_retries=0, http_client=plain)
            stack.push_async_callback(client.close)
            return client

        yield make


def scripted(**script: Any) -> Json:
    return {"extra_body": {"x_scripted": script}}


class TestErrors:
    @pytest.mark.parametrize(
        ("body", "raised", "kind", "code", "told"),
        [
            ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error", "invalid_value", "max_tokens"),
            ({"model": "no/such"}, anthropic.NotFoundError, "not_found_error", "model_not_found", "no/such"),
            (
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                anthropic.BadRequestError, "invalid_request_error", "invalid_value", "web_search_20250305",
            ),
        ],
    )  # fmt: skip
    async def test_a_refusal_is_the_sdks_own_exception(
        self,
        served: Served,
        sdk: Sdk,
        body: Any,
        raised: type[anthropic.APIStatusError],
        kind: str,
        code: str,
        told: str,
    ) -> None:
        sound: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        with pytest.raises(raised) as caught:
            await sdk(served).messages.create(**(sound | body))
        error = caught.value
        assert error.type == kind
        assert told in (error.api_message or "")
        assert error.request_id is not None
        assert error.error_code == code
        assert error.body == {
            "type": "error",
            "error": {"type": kind, "message": error.api_message, "details": {"error_code": code}},
            "request_id": error.request_id,
        }

    @pytest.mark.parametrize(
        ("method", "path", "status", "kind"),
        [
            ("GET", "/v1/messages", 405, "invalid_request_error"),
            ("POST", "/v1/messages/nothing", 404, "not_found_error"),
            ("DELETE", "/v1/messages/count_tokens", 405, "invalid_request_error"),
        ],
    )
    async def test_routing_errors_are_anthropics_too(
        self, served: Served, http: aiohttp.ClientSession, method: str, path: str, status: int, kind: str
    ) -> None:
        async with http.request(method, served.url + path, json={}) as response:
            body = await response.json()
            assert (response.status, body["type"], body["error"]["type"]) == (status, "error", kind)
            assert body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]

    async def test_what_only_begins_like_the_path_is_answered_in_openais_words(
        self, served: Served, http: aiohttp.ClientSession
    ) -> None:
        async with http.get(served.url + "/v1/messagesque") as response:
            assert set(await response.json()) == {"error"}
            assert "request-id" not in response.headers

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
    async def test_a_body_that_is_no_json_object(
        self, served: Served, http: aiohttp.ClientSession, body: bytes
    ) -> None:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            async with http.post(served.url + path, data=body) as response:
                told = await response.json()
                assert (response.status, told["error"]["type"]) == (400, "invalid_request_error")

    async def test_a_body_that_is_too_large(self, serve: Any, sdk: Sdk, engine: ScriptedServer) -> None:
        served = serve(engine, web={"max_body_bytes": 1024})
        with pytest.raises(anthropic.RequestTooLargeError) as caught:
            await sdk(served).messages.create(
                model=MODEL, max_tokens=5, messages=[{"role": "user", "content": "x" * 2000}]
            )
        assert caught.value.type == "request_too_large"

    async def test_an_engine_that_refuses_fails_and_is_full(self, served: Served, sdk: Sdk) -> None:
        for status, raised, kind in (
            (400, anthropic.BadRequestError, "invalid_request_error"),
            (500, anthropic.InternalServerError, "api_error"),
            (503, anthropic.InternalServerError, "overloaded_error"),
        ):
            for stream in (False, True):
                with pytest.raises(raised) as caught:
                    await sdk(served).messages.create(
                        model=MODEL, max_tokens=5, messages=HELLO, stream=stream,
                        **scripted(error_after=0, error_status=status),
                    )  # fmt: skip
                assert caught.value.type == kind

    @pytest.mark.parametrize("fault", ["error_after", "cut_after", "crash_after"])
    async def test_a_stream_that_fails_is_raised_by_the_sdk(self, served: Served, sdk: Sdk, fault: str) -> None:
        said = []
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with sdk(served).messages.stream(
                model=MODEL, max_tokens=50, messages=HELLO, **scripted(**{fault: 2})
            ) as stream:
                async for text in stream.text_stream:
                    said.append(text)
        assert said == ["t0 ", "t1 "]
        assert caught.value.type == "api_error"
        assert caught.value.request_id

    async def test_a_tool_called_with_nonsense_is_no_input(self, served: Served, sdk: Sdk) -> None:
        request: Any = {"model": MODEL, "max_tokens": 50, "messages": HELLO, "tools": [LOOK]}
        for arguments in ('{"city": "Os', "[1]"):
            with pytest.raises(anthropic.InternalServerError) as caught:
                await sdk(served).messages.create(
                    **request, **scripted(text="", tool_calls=[{"name": "look", "arguments": arguments}])
                )
            assert caught.value.status_code == 502

    async def test_a_key_is_wanted_and_taken_from_where_the_sdk_puts_it(
        self, serve: Any, engine: ScriptedServer, sdk: Sdk
    ) -> None:
        keys = [{"key": "sk-" + "a" * 32, "name": "mine"}]
        settings = settings_with().model_copy(update={"security": Security(enable_auth=True, api_keys=keys)})
        served = serve(engine, settings=settings)
        request: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        assert await sdk(served, keys[0]["key"]).messages.create(**request)
        for asking in (sdk(served).messages.create(**request), sdk(served).messages.count_tokens(
            model=MODEL, messages=HELLO
        )):  # fmt: skip
            with pytest.raises(anthropic.AuthenticationError) as caught:
                await asking
            assert caught.value.type == "authentication_error"
            assert caught.value.request_id

    async def test_a_limit_is_told_with_how_long_to_wait(self, serve: Any, engine: ScriptedServer, sdk: Sdk) -> None:
        limits = Limits(default_rate_limit_per_minute=1)
        served = serve(engine, settings=settings_with().model_copy(update={"limits": limits}))
        request: Any = {"model": MODEL, "max_tokens": 5, "messages": HELLO}
        await sdk(served).messages.create(**request)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await sdk(served).messages.create(**request)
        assert caught.value.type == "rate_limit_error"
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 60
