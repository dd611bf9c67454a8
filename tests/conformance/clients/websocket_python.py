"""The service's own dialect: the WebSocket by the `websockets` package, its other routes by the standard library."""

from __future__ import annotations

import json
import secrets
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from harness import COLD, SINGLE, Target, check, cool, freed_within, holds, same, scripted
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

LONG = {"gap": 0.02, "tokens": 5000}


def socket(target: Target, query: str = "", *, key: str | None = None) -> ClientConnection:
    address = f"{target.url.replace('http', 'ws', 1)}/chat/ws{query}"
    headers = {"Authorization": f"Bearer {key or target.api_key}"}
    return connect(address, additional_headers=headers, open_timeout=20, close_timeout=2)


def prompt(target: Target, question: str = "one two three", **more: Any) -> str:
    script = {name: more.pop(name) for name in ("tokens", "text", "gap", "ttft", "error_after") if name in more}
    return json.dumps({"model-name": target.model, "prompt": question, "max-token": 32, **scripted(**script), **more})


def spoken(connection: ClientConnection) -> str:
    """The next frame that says something: empty ones are signs of life."""
    while not (frame := str(connection.recv(timeout=20))):
        pass
    return frame


def hears(connection: ClientConnection, text: str) -> None:
    """The next frames say this, in however many pieces."""
    told = ""
    while len(told) < len(text):
        told += spoken(connection)
    same(told, text)


def events(connection: ClientConnection, until: tuple[str, ...] = ("end", "error")) -> list[dict[str, Any]]:
    """The frames of an answer that was asked for with `events`, to one of these types: unless told so, to its end."""
    frames: list[dict[str, Any]] = []
    while not frames or frames[-1]["type"] not in until:
        frames.append(json.loads(connection.recv(timeout=20)))
    return frames


def said(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["text"] for frame in frames if frame["type"] == "piece")


def call(target: Target, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key or target.api_key}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(target.url + path, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=25) as got:
            text, status = got.read(), got.status
    except urllib.error.HTTPError as error:
        text, status = error.read(), error.code
    return status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


@check("own-dialect", "scripted")
def a_frame_comes_for_each_piece(target: Target) -> None:
    with socket(target) as connection:
        connection.send(prompt(target, tokens=3))
        hears(connection, "t0 t1 t2 ")


@check("own-dialect", "scripted")
def the_socket_stays_open_for_many_prompts_which_are_answered_in_turn(target: Target) -> None:
    with socket(target) as connection:
        for number in range(5):
            connection.send(prompt(target, f"question {number}", text=f"answer {number}", events=True))
        same([said(events(connection)) for _ in range(5)], [f"answer {number}" for number in range(5)])


@check("own-dialect", "scripted")
def a_client_frame_stops_the_running_answer_and_the_next_prompt_is_answered(target: Target) -> None:
    with socket(target) as connection:
        connection.send(prompt(target, events=True, **LONG, **{"max-token": 5000}))
        events(connection, until=("piece",))
        connection.send('{"type": "stop"}')
        same(events(connection)[-1]["finish_reason"], "stopped")
        connection.send(prompt(target, tokens=2, events=True))
        same(said(events(connection)), "t0 t1 ")


@check("own-dialect")
def an_error_is_a_frame_that_says_so_and_the_socket_stays_open(target: Target) -> None:
    with socket(target) as connection:
        for wrong in ("{", '{"model-name": "no/such-model", "prompt": "x"}', prompt(target, **{"top-p": 7})):
            connection.send(wrong)
            frame = spoken(connection)
            holds(frame.startswith("__ERROR__:") and len(frame) > 20 and "Traceback" not in frame, frame)
        connection.send(prompt(target))
        holds(not spoken(connection).startswith("__ERROR__:"))


@check("own-dialect", "scripted")
def an_engine_that_fails_is_told_behind_what_it_said(target: Target) -> None:
    with socket(target) as connection:
        connection.send(prompt(target, error_after=2))
        hears(connection, "t0 t1 ")
        holds(spoken(connection).startswith("__ERROR__:"))


@check("own-dialect")
def pings_are_answered(target: Target) -> None:
    with socket(target) as connection:
        holds(connection.ping().wait(timeout=30), "no pong of the protocol's")
        connection.send('{"type": "ping"}')
        same(connection.recv(timeout=20), "")


@check("own-dialect", "keys")
def a_wrong_key_is_refused_at_the_handshake(target: Target) -> None:
    try:
        socket(target, key="sk-nobody").close()
    except InvalidStatus as error:
        holds(error.response.status_code in (401, 403), error)  # 403: Modal has one refusal of a handshake
    else:
        raise AssertionError("it was let in")


@check("own-dialect", "single", "scripted")
def closing_the_socket_frees_the_engine(target: Target) -> None:
    with socket(target) as connection:
        connection.send(prompt(target, **LONG, **{"model-name": SINGLE, "max-token": 5000}))
        spoken(connection)
    freed_within(60.0, lambda: once(target), urllib.error.HTTPError)


def once(target: Target) -> bool:
    status, told = call(target, "POST", "/completions", {"model": SINGLE, "prompt": "one", **scripted(tokens=1)})
    if status == 503:
        raise urllib.error.HTTPError(target.url, status, str(told), {}, None)  # type: ignore[arg-type]
    return status == 200


@check("own-dialect", "cold", "scripted")
def a_cold_model_is_no_error(target: Target) -> None:
    cool(target)
    with socket(target) as connection:
        connection.send(prompt(target, tokens=2, events=True, **{"model-name": COLD}))
        same(said(events(connection)), "t0 t1 ")


@check("own-dialect", "scripted")
def a_session_is_kept_over_the_socket_and_its_history_read_rolled_back_and_deleted(target: Target) -> None:
    session = f"chat/{secrets.token_hex(8)}"
    path = f"/chat/history/{session}"
    with socket(target, f"?session_id={urllib.parse.quote(session, safe='')}") as connection:
        for number in (1, 2):
            connection.send(prompt(target, f"question {number}", text=f"answer {number}", events=True))
            events(connection)
    turns = [{"role": role, "content": f"{word} {number}"} for number in (1, 2)
             for role, word in (("user", "question"), ("assistant", "answer"))]  # fmt: skip
    status, history = call(target, "GET", path)
    same((status, [turn for turn in history if turn["role"] != "system"]), (200, turns))
    holds(session in call(target, "GET", "/sessions")[1])
    same(call(target, "POST", f"{path}/rollback", {"amount": 2}), (200, {"status": "ok"}))
    same([turn for turn in call(target, "GET", path)[1] if turn["role"] != "system"], turns[:2])
    same(call(target, "DELETE", path)[0], 204)
    same(call(target, "GET", path), (200, []))


@check("own-dialect", "scripted")
def deleting_a_session_stops_its_running_answer(target: Target) -> None:
    session = secrets.token_hex(8)
    with socket(target) as connection:
        connection.send(prompt(target, **LONG, **{"session-id": session, "max-token": 5000, "events": True}))
        events(connection, until=("piece",))
        same(call(target, "DELETE", f"/chat/history/{session}")[0], 204)
        last = events(connection)[-1]
        same((last["type"], last["error"]["code"]), ("error", "session_deleted"))
    same(call(target, "GET", f"/chat/history/{session}"), (200, []))


@check("own-dialect", "scripted")
def two_turns_at_once_on_a_session_are_never_interleaved(target: Target) -> None:
    session = secrets.token_hex(8)
    body = {"model-name": target.model, "session-id": session, **scripted(tokens=5, gap=0.02)}

    def turn(number: int) -> None:
        call(target, "POST", "/chat/completions", {**body, "prompt": f"question {number}"})

    threads = [threading.Thread(target=turn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    roles = [turn["role"] for turn in call(target, "GET", f"/chat/history/{session}")[1]]
    same([role for role in roles if role != "system"], ["user", "assistant"] * 3)
    call(target, "DELETE", f"/chat/history/{session}")


@check("own-dialect")
def a_completion_has_the_fields_of_the_services_own(target: Target) -> None:
    status, told = call(target, "POST", "/completions", {"model": target.model, "prompt": "one two", "max-token": 8})
    same((status, set(told)), (200, {"text", "model", "tokens", "duration_seconds", "tokens_per_second"}))
    holds(told["text"] and told["tokens"] > 0, told)


@check("own-dialect")
def both_spellings_and_openais_body_are_taken_on_the_unprefixed_paths(target: Target) -> None:
    kebab = {"model-name": target.model, "prompt": "one", "max-token": 4, "top-p": 0.9, "repeat-penalty": 1.1}
    snake = {name.replace("-", "_"): value for name, value in kebab.items()}
    for body in (kebab, snake):
        status, told = call(target, "POST", "/chat/completions", body)
        same((status, "data:" in told), (200, True))
    messages = [{"role": "user", "content": "one"}]
    body = {"model": target.model, "messages": messages, "max_tokens": 4}
    status, told = call(target, "POST", "/chat/completions", body)
    same((status, told["object"]), (200, "chat.completion"))
    body = {"model": target.model, "prompt": "one", "n": 1, "max_tokens": 4}
    status, told = call(target, "POST", "/completions", body)
    same((status, told["object"]), (200, "text_completion"))


@check("own-dialect")
def a_device_that_is_not_there_is_a_header_and_no_error(target: Target) -> None:
    for device in ("cpu", "cuda", "metal"):
        body = {"model": target.model, "prompt": "one", "device": device, "max-token": 4}
        same(call(target, "POST", "/completions", body)[0], 200)


@check("own-dialect")
def the_models_are_told_by_name_and_found_by_id_and_by_name(target: Target) -> None:
    status, told = call(target, "GET", "/models")
    same((status, target.model in told["models"]), (200, True))
    one = call(target, "GET", f"/models/{target.model}")[1]
    same(set(one) >= {"id", "name", "context_length", "quantization"}, True)
    same(call(target, "GET", f"/models/{one['id']}")[1]["name"], one["name"])
    same(call(target, "GET", "/models/no/such-model")[0], 404)


@check()
def health_and_readiness_answer_without_a_key(target: Target) -> None:
    for path, status in (("/health", "ok"), ("/readiness", "ready")):
        got, told = call(target, "GET", path, key="sk-nobody")
        same((got, told["status"]), (200, status))


@check("own-dialect", "limits")
def another_key_does_not_see_a_session(target: Target) -> None:
    session = secrets.token_hex(8)
    body = {"model-name": target.model, "prompt": "mine", "session-id": session, **scripted(tokens=1)}
    same(call(target, "POST", "/chat/completions", body)[0], 200)
    same(call(target, "GET", f"/chat/history/{session}", key=target.limited_key), (200, []))
    holds(len(call(target, "GET", f"/chat/history/{session}")[1]) >= 2)
    call(target, "DELETE", f"/chat/history/{session}")


@check("own-dialect", "scripted", "heartbeat")
def a_socket_is_not_silent_while_the_engine_thinks(target: Target) -> None:
    with socket(target) as connection:
        connection.send(prompt(target, ttft=2.0, tokens=1))
        began, frames = time.monotonic(), []
        while "t0 " not in frames:
            frames.append(connection.recv(timeout=20))
        holds(frames.count("") >= 1 and time.monotonic() - began > 1.5, frames)


@check("own-dialect")
def who_asks_for_messages_on_the_socket_is_told_where_to_go(target: Target) -> None:
    with socket(target) as connection:
        connection.send(json.dumps({"model": target.model, "messages": [{"role": "user", "content": "one"}]}))
        holds("/v1/chat/completions" in spoken(connection))
        try:
            connection.send(prompt(target))
        except ConnectionClosed:
            raise AssertionError("the socket was closed") from None
