"""Sessions of the deployed service outlive its web containers."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal
from tests.service.deployment import APP, ROOT, deploy, scripted

if TYPE_CHECKING:
    from tests.service.deployment import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def ask(service: Service, path: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(service.url + path, data=data), timeout=60) as answer:
        told: bytes = answer.read()
        return told


def speak(service: Service, prompt: str) -> None:
    turn = {"model-name": "steady", "prompt": prompt, "session-id": "s", "max-token": 2}
    assert b"event: done" in ask(service, "/chat/completions", turn)


def test_a_session_goes_on_after_every_web_container_has_died() -> None:
    with Emulator() as emulator:  # no threads: all that a web container knows has to die with its process
        service = deploy(emulator, [scripted("steady")], STATE__KIND="aws")
        speak(service, "first")
        before = emulator.containers(app=APP, function="Web")
        for container in before:
            emulator.kill_container(container.task_id)
        emulator.wait(lambda: not {c.task_id for c in before} & {c.task_id for c in emulator.containers()}, within=30)
        speak(service, "second")
        told = json.loads(ask(service, "/chat/history/s"))
        assert [message["content"] for message in told if message["role"] == "user"] == ["first", "second"]
        assert json.loads(ask(service, "/sessions")) == ["s"]
        _a_table_that_throttles_or_loses_answers_keeps_each_turn_once(service)


def test_a_web_function_that_is_stopped_in_mid_answer_keeps_what_was_said() -> None:
    with Emulator() as emulator:
        long = scripted("steady", "--script", '{"tokens": 2000, "gap": 0.1}')
        service = deploy(emulator, [long], STATE__KIND="aws")
        turn = {"model-name": "steady", "prompt": "q", "session-id": "s", "max-token": 2000}
        request = urllib.request.Request(service.url + "/chat/completions", data=json.dumps(turn).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            while b"t5 " not in answer.readline():
                pass
            stopped = modal(emulator, "app", "stop", "--yes", APP, cwd=ROOT)
            assert stopped.returncode == 0, stopped.stdout + stopped.stderr
            with pytest.raises(http.client.IncompleteRead):  # the runtime cancels it
                answer.read()
        emulator.wait(lambda: not emulator.containers(app=APP), within=60)
        again = deploy(emulator, [long], STATE__KIND="aws")
        _, question, said = json.loads(ask(again, "/chat/history/s"))
        assert question["content"] == "q"
        assert said["interrupted"] and "t5" in said["content"]


def _a_table_that_throttles_or_loses_answers_keeps_each_turn_once(service: Service) -> None:
    faults = service.emulator.faults
    throttled = faults.dynamodb("throttle", times=2)
    speak(service, "third")
    assert throttled.struck == 2
    lost = faults.dynamodb("lost")
    speak(service, "fourth")
    assert lost.struck == 1
    told = json.loads(ask(service, "/chat/history/s"))
    asked = [message["content"] for message in told if message["role"] == "user"]
    assert asked == ["first", "second", "third", "fourth"]
