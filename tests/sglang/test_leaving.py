"""A caller who leaves, in every phase of a request: the engine itself says when it is free, and of what."""

from __future__ import annotations

import contextlib
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.targets import Target
from tests.conformance.wire import Connection
from tests.sglang.differences import expected
from tests.sglang.service import PLACES, Load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.sglang.service import Inside, Service

PATIENCE = 60.0
LIMIT = 1800
"""Tokens of an answer after which a request ends that nobody has aborted."""
MOST = 1500
"""An engine that was seen with as many had not heard that its caller has left."""
ATTEMPTS = 30
"""A prefill is short: on a busy machine it may be over before its caller has noticed that it began."""
LONG_PROMPT = " ".join(f"w{number}" for number in range(250))
LONG_LIMIT = 1000
LONG_MOST = 900 + 800
"""With the 900 tokens of that prompt."""
IDLE = Load(running=0, queued=0)
FULL = Load(running=PLACES, queued=0)


def unending(prompt: str, *, limit: int, stream: bool) -> dict[str, Any]:
    """A request that no end of an answer ends: the model's two end tokens are forbidden."""
    bias = {"0": -100, "2": -100}
    return {"model": "demo", "prompt": prompt, "max_tokens": limit, "logit_bias": bias, "stream": stream}


@pytest.fixture
def engine(service: Service) -> Iterator[Inside]:
    inside = service.loaded("demo")
    until_load(inside, IDLE)
    yield inside
    until_load(inside, IDLE)


@contextlib.contextmanager
def asking(service: Service, prompt: str = "Hello", *, limit: int = LIMIT, stream: bool = True) -> Iterator[Connection]:
    """A caller, who leaves at the end."""
    target = Target(url=service.url, model="demo")
    with Connection(target) as connection:
        connection.send(connection.request(unending(prompt, limit=limit, stream=stream), "/v1/completions"))
        yield connection


def until_load(inside: Inside, *wanted: Load, most: int = MOST) -> Load:
    """Wait until the engine is as one of these, and not because a request has come to its end: then it would have been
    seen with `most` tokens or more."""
    began = time.monotonic()
    while (load := inside.load()) not in wanted:
        assert load.tokens < most, f"the engine is {load}: nobody told it to stop"
        assert time.monotonic() - began < PATIENCE, f"the engine is {load}, not {wanted}"
        time.sleep(0.005)
    return load


def text_comes(connection: Connection) -> None:
    connection.head()
    next(event for event in connection.events() if not event.is_comment)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
def test_one_who_leaves_between_tokens(service: Service, engine: Inside, stream: bool) -> None:
    with asking(service, stream=stream) as connection:
        if stream:
            text_comes(connection)
        until_load(engine, Load(running=1, queued=0))
    until_load(engine, IDLE)


def test_one_who_leaves_in_prefill(service: Service, engine: Inside) -> None:
    """It was in prefill if the engine had begun and no token had come yet."""
    for attempt in range(ATTEMPTS):
        with asking(service, f"{attempt} {LONG_PROMPT}", limit=LONG_LIMIT) as connection:
            until_load(engine, Load(running=1, queued=0), most=LONG_MOST)
            connection.socket.setblocking(False)
            in_prefill = not has_text(connection)
        until_load(engine, IDLE, most=LONG_MOST)
        if in_prefill:
            return
    pytest.fail("each time a token had come before the engine said that it had begun")


def has_text(connection: Connection) -> bool:
    try:
        return b"data: " in connection.socket.recv(1 << 20)
    except BlockingIOError:
        return False


def test_one_who_leaves_the_queue(service: Service, engine: Inside) -> None:
    """Every place is taken. Whoever keeps the queue, the one who left it never gets a place, and the next one does."""
    with contextlib.ExitStack() as working:
        for number in range(PLACES):
            text_comes(working.enter_context(asking(service, f"Hello {number}")))
        until_load(engine, FULL, most=PLACES * MOST)
        with asking(service, "queued"):
            IN_QUEUE[expected("queue", service.kind)](service, engine)
        until_load(engine, FULL, most=PLACES * MOST)
        assert waiting(service) == 0
    until_load(engine, IDLE, most=PLACES * MOST)


def queued_in_the_service(service: Service, engine: Inside) -> None:
    began = time.monotonic()
    while waiting(service) < 1:
        assert time.monotonic() - began < PATIENCE, service.get("/models/demo")
        time.sleep(0.005)
    assert engine.load() == FULL


def queued_in_the_engine(service: Service, engine: Inside) -> None:
    until_load(engine, Load(running=PLACES, queued=1), most=PLACES * MOST)


IN_QUEUE: dict[str, Callable[[Service, Inside], None]] = {
    "service": queued_in_the_service,
    "engine": queued_in_the_engine,
}


def waiting(service: Service) -> int:
    """Requests that the service itself keeps waiting."""
    (count,) = re.findall(r'^requests_waiting\{[^}]*model="demo"[^}]*\} (\S+)', service.text("/metrics"), re.MULTILINE)
    return int(float(count))
