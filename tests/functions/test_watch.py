"""An engine that lives and does not serve is ended by whoever watches it, and one that is merely busy is not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socketserver
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from functions.engines.base import Address, smallest_request
from functions.engines.process import ServerProcess
from functions.engines.scripted import ScriptedEngine
from functions.watch import Pulse, Watch
from infra.health import Health
from tests.ports import free_port
from tests.service.deployment import processes, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BRISK = Health(probe_seconds=0.05, probe_timeout=20, failures=2, answer_seconds=0.05)
"""Asks often, and waits long: a busy machine is not taken for a broken engine."""
IMPATIENT = Health(probe_seconds=0.05, probe_timeout=0.5, failures=2, answer_seconds=0)
NOT_HTTP = b"\x00\x01\x02 this is no answer\r\n\r\n"


def test_failures_count_only_in_a_row_and_the_last_one_decides() -> None:
    pulse = Pulse(3)
    assert [pulse.health(answered) for answered in (False, False, True, False, False)] == [None] * 5
    assert pulse.health(answered=False) == "it did not answer 3 health checks in a row"


def test_what_was_too_busy_to_answer_neither_counts_nor_clears() -> None:
    pulse = Pulse(2)
    assert [pulse.answer(sensible) for sensible in (False, None, True, False, None)] == [None] * 5
    assert pulse.answer(sensible=False) == "it answered 2 requests in a row with errors of its own"


def test_each_of_the_smallest_requests_has_an_id_of_its_own_that_sglang_counts_nowhere() -> None:
    ids = {str(smallest_request("m", embedding=False)[1]["rid"]) for _ in range(3)}
    assert len(ids) == 3
    assert all(one.startswith("HEALTH_CHECK") for one in ids)


def listening(answer: bytes | None, *, trickling: float = 0) -> Iterator[ServerProcess]:
    """A process whose port is another's, which says `answer` to everything, or nothing at all; and then a letter each
    20 ms, for `trickling` seconds."""
    over = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            if answer is None:
                over.wait(30)
            else:
                self.request.sendall(answer)
                with contextlib.suppress(OSError):
                    for _ in range(round(trickling / 0.02)):
                        if not over.wait(0.02):
                            self.request.sendall(b"a")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = Address(host="127.0.0.1", port=server.server_address[1])
        yield ServerProcess(name="other", command=[sys.executable, "-c", ""], address=address)
        over.set()
        server.shutdown()


def answer(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n{body}".encode()


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        (answer("200 OK", '{"choices": [{"text": "b"}]}'), True),
        (answer("200 OK", '{"data": [{"embedding": [1]}]}'), True),
        (answer("400 Bad Request", "{}"), True),
        (answer("302 Found", "{}"), False),
        (answer("503 Service Unavailable", "{}"), None),
        (answer("429 Too Many Requests", "{}"), None),
        (None, None),
        (answer("500 Internal Server Error", "{}"), False),
        (answer("200 OK", '{"choices": []}'), False),
        (answer("200 OK", "[1]"), False),
        (answer("200 OK", "[" * 200_000), False),
        (answer("200 OK", '{"choices": ["' + "a" * 2_000_000 + '"]}'), False),
        (answer("200 OK", "\x00\x01 garbage"), False),
        (NOT_HTTP, False),
        (b"", False),
    ],
)
def test_an_answer_a_refusal_a_silence_and_garbage_are_told_apart(said: bytes | None, judged: bool | None) -> None:
    for process in listening(said):
        path, body = smallest_request("m", embedding=False)
        assert process.answers(path, body, 0.3 if said is None else 20.0) is judged


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n"])
def test_one_that_answers_byte_by_byte_has_no_longer_than_one_that_is_silent(first: bytes) -> None:
    for process in listening(first, trickling=5.0):
        path, body = smallest_request("m", embedding=False)
        assert process.answers(path, body, 0.2) is None  # at its end, what it has said is no answer: False


class Noting(ScriptedEngine):
    """Keeps what it was found to answer."""

    asked: tuple[bool | None, ...] = ()

    def answers(self, timeout: float) -> bool | None:
        found = super().answers(timeout)
        self.asked += (found,)
        return found


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[Noting]:
    arguments = getattr(request, "param", ())
    made = Noting(
        address=Address(host="127.0.0.1", port=free_port()), arguments=arguments, api_key="ek-1", startup_timeout=60
    )
    made.start()
    yield made
    made.stop()


def gone(engine: ScriptedEngine) -> bool:
    waiting = threading.Thread(target=engine.wait, daemon=True)
    waiting.start()
    waiting.join(60)
    return not waiting.is_alive()


@pytest.mark.slow
@pytest.mark.parametrize("engine", [("--script", '{"error_after": 0}')], indirect=True)
def test_an_engine_that_is_healthy_and_fails_every_request_is_ended(engine: ScriptedEngine) -> None:
    watch = Watch(engine, BRISK, name="m")
    watch.begin()
    assert gone(engine)
    assert watch.verdict == "it answered 2 requests in a row with errors of its own"


@pytest.mark.slow
def test_an_engine_that_hangs_is_ended(engine: ScriptedEngine) -> None:
    watch = Watch(engine, IMPATIENT, name="m")
    (pid,) = processes(f"--port {engine.address.port} ")
    os.kill(pid, signal.SIGSTOP)
    watch.begin()
    assert gone(engine)
    assert watch.verdict == "it did not answer 2 health checks in a row"


@pytest.mark.slow
def test_an_engine_that_serves_is_left_alone_and_counts_nothing_of_being_asked(engine: Noting) -> None:
    watch = Watch(engine, BRISK, name="m")
    watch.begin()
    until(lambda: len(engine.asked) >= 5, within=60)
    watch.end()
    assert set(engine.asked) == {True}
    assert watch.verdict is None
    with urllib.request.urlopen(f"{engine.address.url}/scripted/state", timeout=20) as told:
        assert json.load(told)["started"] == 0
