"""A caller who leaves, in every phase of a request: the engine is free for somebody else within 100 ms.

Seen from outside: the model `single` serves one request at a time, so its place is free when another one is answered.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.targets import KEEPALIVE_SECONDS, needs
from tests.conformance.wire import Connection, chat, once, place_is_free

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conformance.targets import Target

pytestmark = [pytest.mark.slow, pytest.mark.alone]

PROMISE = 0.1
ATTEMPTS = 20
"""This machine may hold any one attempt up, not each of several."""
PLAIN = {"stream": False}


def to_the_engine(connection: Connection) -> None:
    time.sleep(0.15)


def first_token(connection: Connection) -> None:
    connection.head()
    next(event for event in connection.events() if b"t0 " in event.raw)


def many_tokens(connection: Connection) -> None:
    connection.head()
    next(event for event in connection.events() if b"t20 " in event.raw)


def the_first_space(connection: Connection) -> None:
    connection.head()
    assert next(connection.chunks()).strip() == b""


PHASES: dict[str, tuple[str, dict[str, Any], Callable[[Connection], None]]] = {
    "a chat in prefill": ("/v1/chat/completions", {"ttft": 60}, to_the_engine),
    "a chat between two tokens": ("/v1/chat/completions", {"gap": 60}, first_token),
    "a chat of many tokens": ("/v1/chat/completions", {"gap": 0.002, "tokens": 100_000}, many_tokens),
    "a completion between two tokens": ("/v1/completions", {"gap": 60}, first_token),
    "a message in prefill": ("/v1/messages", {"ttft": 60}, to_the_engine),
    "a message between two tokens": ("/v1/messages", {"gap": 60}, first_token),
    "a response between two tokens": ("/v1/responses", {"gap": 60}, first_token),
    "a plain chat in prefill": ("/v1/chat/completions", {"ttft": 60, **PLAIN}, to_the_engine),
    "a plain chat between tokens": ("/v1/chat/completions", {"gap": 60, **PLAIN}, to_the_engine),
    "a plain message in prefill": ("/v1/messages", {"ttft": 60, **PLAIN}, to_the_engine),
    "a plain response in prefill": ("/v1/responses", {"ttft": 60, **PLAIN}, to_the_engine),
    "a plain chat that is kept alive": ("/v1/chat/completions", {"ttft": 60, **PLAIN}, the_first_space),
    "a chat of the service's own in prefill": ("/chat/completions", {"ttft": 60}, to_the_engine),
    "a plain completion of the service's own": ("/completions", {"ttft": 60, **PLAIN}, to_the_engine),
}


@pytest.mark.parametrize("phase", PHASES)
def test_the_engine_is_free_100_ms_after_its_caller_has_left(target: Target, phase: str) -> None:
    path, script, waits = PHASES[phase]
    needs(target, "single", *FEATURES.get(path, ()))
    if waits is the_first_space:
        needs(target, "keepalive")
    times = []
    for _ in range(ATTEMPTS):
        with Connection(target) as connection:
            connection.send(connection.request(body_for(target, path, dict(script)), path))
            waits(connection)
            times.append(place_is_free(target, left=connection.leave()))
        if times[-1] < PROMISE:
            break
    assert min(times) < PROMISE, times


FEATURES = {
    "/v1/messages": ("messages",), "/v1/responses": ("responses",), "/chat/completions": ("own-dialect",),
    "/completions": ("own-dialect",),
}  # fmt: skip


def body_for(target: Target, path: str, script: dict[str, Any]) -> dict[str, Any]:
    more = {"stream": script.pop("stream", True)}
    body = {"model": "single", "x_scripted": script, "max_tokens": 100_000, **more}
    match path:
        case "/v1/chat/completions" | "/v1/messages":
            return chat(target, script, **body)
        case "/v1/responses":
            return {"model": "single", "input": "one", "store": False, "x_scripted": script, **more}
        case _:
            return {**body, "prompt": "one"}


def test_leaving_with_half_a_body_sent_disturbs_nobody(target: Target) -> None:
    for _ in range(5):
        with Connection(target) as connection:
            connection.send(connection.request(chat(target))[:-10])
    assert once(target, chat(target, {"tokens": 1}, **PLAIN))[0].status == 200


def test_leaving_with_half_a_head_sent_disturbs_nobody(target: Target) -> None:
    for _ in range(5):
        with Connection(target) as connection:
            connection.send(connection.request(chat(target))[:30])
    assert once(target, chat(target, {"tokens": 1}, **PLAIN))[0].status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_while_the_engine_boots_leaves_no_request_behind(target: Target, stream: bool) -> None:
    """A model with requests cannot be unloaded (409): it can, so there is none."""
    needs(target, "cold", "scripted")
    unloaded(target)
    with Connection(target) as connection:
        connection.send(connection.request(chat(target, {"ttft": 60}, model="cold", stream=stream)))
        to_the_engine(connection)
        connection.leave()
    until_status(target, "/models/cold/unload", 200)


def test_leaving_at_the_end_is_no_failure(target: Target) -> None:
    for _ in range(5):
        with Connection(target) as connection:
            connection.ask(chat(target, {"tokens": 2}))
            next(event for event in connection.events() if event.raw == b"data: [DONE]")
    assert once(target, chat(target, {"tokens": 1}, **PLAIN))[0].status == 200


def test_one_who_stays_is_not_disturbed_by_many_who_leave(target: Target) -> None:
    needs(target, "scripted")
    with Connection(target) as stays:
        stays.send(stays.request(chat(target, {"tokens": 30, "gap": 0.02})))
        for _ in range(10):
            with Connection(target) as leaves:
                leaves.send(leaves.request(chat(target, {"gap": 60})))
                first_token(leaves)
        assert b"data: [DONE]" in stays.body(stays.head())


def unloaded(target: Target) -> None:
    until_status(target, "/models/cold/unload", 200)


def until_status(target: Target, path: str, status: int) -> None:
    began = time.monotonic()
    while (head := once(target, b"", path)[0]).status != status:
        assert time.monotonic() - began < 30, head


def test_a_plain_answer_begins_with_spaces_before_a_gateway_gives_up(target: Target) -> None:
    needs(target, "keepalive", "scripted")
    with Connection(target) as connection:
        head = connection.ask(chat(target, {"ttft": 4 * KEEPALIVE_SECONDS, "text": "at last"}, **PLAIN))
        assert (head.status, head.headers["content-type"]) == (200, "application/json")
        body = connection.body(head)
        assert body[:1] in (b" ", b"\n"), "which came before the answer"
        assert body.lstrip().startswith(b"{")


def test_a_plain_answer_that_fails_behind_its_spaces_is_cut_and_never_ends_well(target: Target) -> None:
    needs(target, "keepalive", "scripted")
    with Connection(target) as connection:
        head = connection.ask(chat(target, {"ttft": 4 * KEEPALIVE_SECONDS, "error_after": 0}, **PLAIN))
        assert head.status == 200
        with pytest.raises(ConnectionError):
            connection.body(head)
