"""`/chat/ws`: prompts and answers over one WebSocket, by real clients."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect

from infra.settings import ApiKey, Limits
from tests.web.conftest import MODEL, target_of, until
from tests.web.socket_kit import configured, connected, prompt

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served
    from tests.web.doubles import HandClock, HandEngine


async def test_one_text_frame_for_each_piece_and_many_prompts_a_connection(served: Served) -> None:
    async with connected(served) as client:
        for _ in range(3):
            await client.say(prompt({"tokens": 3}))
            assert await client.hear_all(3) == ["t0 ", "t1 ", "t2 "]


async def test_a_browsers_kind_of_client_too(served: Served) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(served.url + "/chat/ws") as socket:
        await socket.send_json(prompt({"tokens": 2}))
        assert [await socket.receive_str() for _ in range(2)] == ["t0 ", "t1 "]


@pytest.mark.parametrize("more", [{"type": "prompt"}, {"type": None}, {"who-knows": 1}, {"stream": True}])
async def test_a_prompt_may_say_that_it_is_one(served: Served, more: Json) -> None:
    async with connected(served) as client:
        await client.say(prompt({"tokens": 1}, **more))
        assert await client.hear() == "t0 "


MISTAKES: dict[str, tuple[Json | str | bytes, str]] = {
    "not JSON": ("{", "invalid_json"),
    "not an object": ("[1]", "invalid_json"),
    "binary": (b"{}", "invalid_json"),
    "nothing": ({}, "missing_required_parameter"),
    "no prompt": ({"model": MODEL}, "missing_required_parameter"),
    "OpenAI's": ({"model": MODEL, "messages": []}, "unsupported_parameter"),
    "an unknown model": ({"model": "no/such", "prompt": "x"}, "model_not_found"),
    "an unknown type": ({"type": "sing"}, "invalid_value"),
    "a strange type": ({"type": [1]}, "invalid_value"),
    "a wrong field": (prompt(temperature="hot"), "invalid_type"),
    "no stream": (prompt(stream=False), "unsupported_value"),
    "what the engine refuses": (prompt({"error_after": 0, "error_status": 400}), "None"),
    "too large": (json.dumps(prompt(stop="x" * 2000)), "request_too_large"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_is_an_error_frame_and_the_socket_stays_open(
    serve: Any, engine: ScriptedServer, mistake: str
) -> None:
    served = serve(engine, settings=configured(max_frame_bytes=1000))
    frame, code = MISTAKES[mistake]
    async with connected(served) as client:
        await client.say(frame)
        error = await client.hear()
        assert error.startswith("__ERROR__:")
        assert len(error) > 20
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "
    async with connected(served, "?events=1") as client:
        await client.say(frame)
        while (told := await client.told())["type"] == "begin":
            continue
        assert (told["type"], str(told["error"]["code"])) == ("error", code)
        assert set(told["error"]) == {"message", "type", "param", "code"}
        assert "body" not in told["error"]["message"]


async def test_an_engine_that_dies_is_an_error_frame_behind_what_it_said(served: Served) -> None:
    async with connected(served) as client:
        await client.say(prompt({"cut_after": 1}))
        assert await client.hear() == "t0 "
        assert (await client.hear()).startswith("__ERROR__:The engine died")
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "


async def test_text_that_looks_like_an_error_is_not_taken_for_one(served: Served) -> None:
    async with connected(served) as client:
        await client.say(prompt({"text": "__ERROR__:none"}))
        frames = await client.hear_all(2)
        assert frames == ["_", "_ERROR__:none"]


async def test_the_end_is_knowable_for_those_who_ask(served: Served) -> None:
    async with connected(served, "?events=1") as client:
        await client.say(prompt({"tokens": 2}, device="metal"))
        begin, *pieces, end = [await client.told() for _ in range(4)]
        assert begin["type"] == "begin"
        assert (begin["model"], begin["session_id"], begin["device"]) == (MODEL, None, "cuda")
        assert "'metal' is not there" in begin["warning"]
        assert pieces == [{"type": "piece", "text": "t0 "}, {"type": "piece", "text": "t1 "}]
        assert (end["type"], end["finish_reason"], end["tokens"], end["prompt_tokens"]) == ("end", "stop", 2, 3)
        await client.say({"type": "ping"})
        assert await client.told() == {"type": "pong"}


async def test_one_prompt_may_ask_for_events_on_a_plain_connection(served: Served) -> None:
    async with connected(served) as client:
        await client.say(prompt({"tokens": 1}, events=True))
        assert [(await client.told())["type"] for _ in range(3)] == ["begin", "piece", "end"]
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "


async def test_prompts_that_come_meanwhile_wait_in_line(served: Served) -> None:
    async with connected(served) as client:
        for text in ("a b ", "c d ", "e f "):
            await client.say(prompt({"text": text, "gap": 0.002}))
        assert await client.hear_all(6) == ["a ", "b ", "c ", "d ", "e ", "f "]


async def test_a_mistake_that_comes_meanwhile_is_told_behind_the_answer(serve: Any, hand_engine: HandEngine) -> None:
    """In the middle of it, it would look as if the answer had failed."""
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    async with connected(served) as client:
        await client.say(prompt())
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("a ")
        await client.say("{")
        await talk.token("b", finish="stop")
        await talk.end()
        assert await client.hear_all(2) == ["a ", "b"]
        assert (await client.hear()).startswith("__ERROR__:")


async def test_more_prompts_than_may_wait_are_refused(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"), settings=configured(max_queued_prompts=1))
    async with connected(served) as client:
        for _ in range(3):
            await client.say(prompt())
        for _ in range(2):
            talk = await hand_engine.next()
            await talk.begin()
            await talk.token("a", finish="stop")
            await talk.end()
            assert await client.hear() == "a"
        assert "1 prompts wait" in await client.hear()
        assert hand_engine.waiting() == 0


async def test_who_floods_a_busy_connection_with_mistakes_is_put_out(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    async with connected(served) as client:
        await client.say(prompt())
        await hand_engine.next()
        for _ in range(100):
            with contextlib.suppress(websockets.ConnectionClosed):
                await client.say("{")
        assert (await client.closed())[0] == 1008


async def test_a_sign_of_life_is_an_empty_frame(serve: Any, hand_engine: HandEngine, clock: HandClock) -> None:
    served = serve(hand_engine.url, clock=clock)
    async with connected(served) as client:
        await client.say({"type": "ping"})
        assert await client.hear() == ""
        await client.say(prompt())
        await (await hand_engine.next()).answer(503, b"modal-http: no container")
        assert await client.hear() == "", "there is no engine yet"
    async with connected(served, "?events=true") as client:
        await client.say(prompt())
        await (await hand_engine.next()).answer(503, b"modal-http: no container")
        assert (await client.told())["type"] == "begin"
        status = await client.told()
        assert status["type"] == "status"
        assert "booting" in status["status"]


async def test_a_ping_is_answered_during_an_answer(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    async with connected(served, "?events=1") as client:
        await client.say(prompt())
        await hand_engine.next()
        assert (await client.told())["type"] == "begin"
        await client.say({"type": "ping"})
        assert (await client.told())["type"] == "pong"


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not(
    serve: Any, hand_engine: HandEngine, clock: HandClock
) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"), settings=configured(idle_seconds=20), clock=clock)
    async with connected(served) as busy, connected(served) as idle, connected(served) as pinging:
        await busy.say(prompt())
        talk = await hand_engine.next()
        await until(lambda: sum(19 < pause <= 20 for pause in clock.pending()) >= 3)
        clock.advance(15)
        await pinging.say({"type": "ping"})
        assert await pinging.hear() == ""
        clock.advance(5)
        assert await idle.closed() == (1000, "idle for 20 s")
        await talk.begin()
        await talk.token("a", finish="stop")
        await talk.end()
        while (frame := await busy.hear()) == "":
            continue
        assert frame == "a"
        await pinging.say({"type": "ping"})
        assert await pinging.hear() == ""


async def test_a_session_of_the_connection_and_one_of_the_prompt(served: Served) -> None:
    async with connected(served, "?session_id=of%20the%20connection&events=1") as client:
        await client.say(prompt({"tokens": 1}))
        assert (await client.told())["session_id"] == "of the connection"
        await client.hear_all(2)
        await client.say(prompt({"tokens": 1}, **{"session-id": "its own"}))
        assert (await client.told())["session_id"] == "its own"
        await client.hear_all(2)
    async with aiohttp.ClientSession() as http, http.get(served.url + "/sessions") as response:
        assert await response.json() == ["its own", "of the connection"]


async def test_a_session_is_the_same_over_the_socket_and_over_http(serve: Any, hand_engine: HandEngine) -> None:
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    response = await served.raw(prompt(**{"session-id": "s"}), "/chat/completions")
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("a", finish="stop")
    await talk.end()
    await response.rest()
    async with connected(served, "?session_id=s") as client:
        await client.say(prompt())
        talk = await hand_engine.next()
        assert [message["role"] for message in talk.json["messages"]] == ["system", "user", "assistant", "user"]


async def test_a_turn_that_is_too_long_is_sent_again_shorter_also_after_a_boot(
    serve: Any, hand_engine: HandEngine
) -> None:
    """A sign of life begins no answer."""
    served = serve(target_of(hand_engine.url, kind="llamacpp"))
    async with connected(served, "?session_id=s") as client:
        for number in range(2):
            await client.say(prompt())
            talk = await hand_engine.next()
            if number:
                await talk.answer(503, b"modal-http: no container")
                assert await client.hear() == ""
                await (await hand_engine.next()).answer(400, b'{"message": "longer than the context", "code": 400}')
                talk = await hand_engine.next()
            assert [message["role"] for message in talk.json["messages"]] == ["system", "user"]
            await talk.begin()
            await talk.token("a", finish="stop")
            await talk.end()
            assert await client.hear() == "a"


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("https://ui.example", True),
        ("https://evil.example", False),
        ("http://{host}", True),
        ("http://{host}.evil.example", False),
        ("https://ui.example.evil", False),
        ("null", False),
        ("http://127.0.0.1:bad", False),
    ],
)
async def test_only_pages_of_allowed_origins_and_its_own_may_connect(
    serve: Any, engine: ScriptedServer, origin: str | None, allowed: bool
) -> None:
    served = serve(engine, settings=configured(security={"allowed_origins": ("https://ui.example",)}))
    origin = origin and origin.replace("{host}", served.url.removeprefix("http://"))
    try:
        async with connected(served, origin=origin) as client:
            await client.say(prompt({"tokens": 1}))
            assert await client.hear() == "t0 "
            assert allowed
    except websockets.InvalidStatus as refused:
        assert not allowed
        assert refused.response.status_code == 403
        assert json.loads(refused.response.body or b"")["error"]["code"] == "origin_not_allowed"


KEYS = {
    "enable_auth": True, "api_keys": (ApiKey(key="sk-number-one", name="one"), ApiKey(key="sk-number-two", name="two"))
}  # fmt: skip


async def test_a_socket_is_its_keys_and_browsers_have_a_way_to_send_it(serve: Any, engine: ScriptedServer) -> None:
    served = serve(engine, settings=configured(security=KEYS))
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(served.url.replace("http", "ws") + "/chat/ws")
    assert refused.value.response.status_code == 401
    headers = {"Authorization": "Bearer sk-number-one"}
    async with connected(served, "?session_id=s", additional_headers=headers) as client:
        await client.say(prompt({"tokens": 1}))
        assert await client.hear() == "t0 "
    protocols: Any = ["chat", "openai-insecure-api-key.sk-number-two"]
    async with connected(served, "?session_id=s&events=1", subprotocols=protocols) as client:
        assert client.socket.subprotocol == "chat"
        await client.say(prompt({"tokens": 1}))
        assert [(await client.told())["type"] for _ in range(3)] == ["begin", "piece", "end"]
    for key, turns in (("sk-number-one", 1), ("sk-number-two", 1)):
        path = served.url + "/chat/history/s"
        async with (
            aiohttp.ClientSession() as http,
            http.get(path, headers={"Authorization": f"Bearer {key}"}) as response,
        ):
            assert len(await response.json()) == 1 + 2 * turns, "nobody speaks in another's session"


async def test_every_prompt_counts_against_the_rate(serve: Any, engine: ScriptedServer) -> None:
    settings = configured().model_copy(update={"limits": Limits(default_rate_limit_per_minute=2)})
    async with connected(serve(engine, settings=settings)) as client:
        for _ in range(2):
            await client.say(prompt({"tokens": 1}))
            assert await client.hear() == "t0 "
        await client.say(prompt({"tokens": 1}, events=True))
        while (told := await client.told())["type"] != "error":
            assert told["type"] == "begin"
        assert told["error"]["code"] == "rate_limit_exceeded"


async def test_there_is_no_other_socket(served: Served) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(served.url.replace("http", "ws") + "/chat/other")
    assert refused.value.response.status_code in (403, 404)
