"""Engines in snapshots and kernels that outlive their container, on the emulator, by the scripted engine's own account.

The emulator takes no snapshot: a container there runs both halves of its start, in Modal's order.
"""

from __future__ import annotations

import pytest
from openai import OpenAI

from emulator.emulator import Emulator
from tests.service.deployment import Service, deploy, scripted, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

MODELS = [
    {**scripted("asleep", scaledown_window=300), "snapshot": True},
    {**scripted("lost", "--deaf-to-wake", scaledown_window=300), "snapshot": True},
    scripted("compiles", "--compile", "triton/kernel.so", scaledown_window=2),
]


def asked(service: Service, model: str) -> str | None:
    client = OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=60)
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=2, stream=False
    )
    return answer.choices[0].message.content


def test_engines_sleep_for_their_snapshot_and_what_was_compiled_is_found_again() -> None:
    logs: list[str] = []
    with Emulator(log=lambda line: logs.append(str(line))) as emulator:
        service = deploy(emulator, MODELS, HEALTH__ANSWER_SECONDS="0")

        # It was warmed up, put to sleep and woken, in this order, before anybody was served.
        assert asked(service, "asleep") == "t0 t1 "
        state = service.ask_engine("asleep", "/scripted/state")
        assert state["moves"] == ["probe", "probe", "probe", "sleep", "wake"]
        assert state["started"] == 1

        # One that does not wake is replaced by one that was never asleep.
        assert asked(service, "lost") == "t0 t1 "
        assert service.ask_engine("lost", "/scripted/state")["moves"] == []

        # The first container compiles and leaves; the next finds what it has compiled.
        assert asked(service, "compiles") == "t0 t1 "
        until(lambda: not service.engines("compiles"), within=60)
        assert asked(service, "compiles") == "t0 t1 "
        until(lambda: any("found what was compiled" in line for line in logs), within=60)

    told = "\n".join(logs)
    assert told.count("compiled triton/kernel.so") == 1
    assert "model asleep is asleep, for a snapshot: container " in told
    assert "model asleep is ready: resume " in told
    assert "model lost is started anew: the scripted engine did not resume its memory" in told
    assert "model compiles is ready: container " in told
