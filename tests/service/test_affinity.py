"""A session's turns reach the engine container that has its prefix, which the second turn's `cached_tokens` shows."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from emulator.emulator import Emulator
from tests.service.deployment import APP, deploy, scripted, until

if TYPE_CHECKING:
    from tests.service.deployment import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SESSIONS = 8
QUESTION = "which word of {name} is the last one"


def test_every_turn_of_a_session_finds_what_the_one_before_has_left() -> None:
    with Emulator() as emulator:
        model = scripted("cached", "--prefix-cache", min_containers=2, max_containers=2)
        service = deploy(emulator, [model], LIMITS__MAX_RESPONSE_TOKENS="4")
        until(lambda: len(emulator.containers(app=APP, function="engine-cached")) == 2, within=60)
        until(lambda: len(served(service)) == 2, within=60)
        told = {name: [turn(service, name) for _ in range(3)] for name in (f"s{n}" for n in range(SESSIONS))}
        for first, second, third in told.values():
            # The whole prompt and the whole answer of the turn before: all but the new question.
            assert second["cached_tokens"] == first["prompt_tokens"] + first["tokens"]
            assert third["cached_tokens"] == second["prompt_tokens"] + second["tokens"]
        here, there = served(service).values()
        assert len(here) + len(there) == SESSIONS
        assert here, "all sessions were served by one container, which any routing could do"
        assert there, "all sessions were served by one container, which any routing could do"
        assert not here & there


def turn(service: Service, name: str) -> dict[str, Any]:
    """What the end of a turn's answer tells."""
    prompt = QUESTION.format(name=name)
    body = {"model-name": "cached", "prompt": prompt, "session-id": name, "max-token": 4, "events": True}
    request = urllib.request.Request(f"{service.url}/chat/completions", data=json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    told: dict[str, Any] = json.loads(lines[lines.index("event: done") + 1].removeprefix("data: "))
    return told


def served(service: Service) -> dict[str, set[str]]:
    """The affinities of the requests that each engine has had. Which one answers, the asker's own affinity decides:
    enough askers meet all."""
    found: dict[str, set[str]] = {}
    for n in range(16):
        headers = {**service.engine_headers(), "Modal-Session-ID": f"asker-{n}"}
        request = urllib.request.Request(f"{service.engine_url('cached')}/scripted/state", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                state = json.load(answer)
        except urllib.error.HTTPError:  # none takes requests yet
            return {}
        found[state["engine"]] = {one["session"] for one in state["requests"]}
    return found
