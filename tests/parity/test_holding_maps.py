"""Large maps: nothing is lost, nothing is done twice, whatever becomes of the containers."""

from __future__ import annotations

import os
import random
import secrets
import signal
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.row("How it holds", "1,000 concurrent inputs of a .map")
def test_a_thousand_concurrent_inputs_finish_none_lost_and_none_doubled(target: Target) -> None:
    app, run = target.deploy("storm.py"), secrets.token_hex(4)
    results = app.function("together").map([run] * 1000, range(1000))
    assert list(results) == [number * number for number in range(1000)]
    assert app.function("traced").remote(run) == list(range(1000))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.row("How it holds", "containers killed during a .map")
@pytest.mark.emulator_only("nobody kills containers of Modal's at random")
def test_a_map_loses_nothing_while_containers_are_killed(target: Target) -> None:
    app, run, chance = target.deploy("storm.py"), secrets.token_hex(4), random.Random(4)
    over = threading.Event()
    killed: list[str] = []

    def kill() -> None:
        while not over.wait(0.2):
            working = [
                container
                for container in target.emulator.containers(app=app.name, function="alone")
                if container.state == "ready" and container.active
            ]
            if not working:
                continue
            victim = chance.choice(working)
            with suppress(LookupError, ProcessLookupError):  # it has just left by itself
                if len(killed) % 2 and victim.pid:
                    os.kill(victim.pid, signal.SIGKILL)
                else:
                    target.emulator.kill_container(victim.task_id)
                killed.append(victim.task_id)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        results = list(app.function("alone").map([run] * 500, range(500), kwargs={"seconds": 0.05}))
    finally:
        over.set()
        killer.join()
    assert [result for result, _ in results] == [number * number for number in range(500)]
    assert len(killed) >= 10
    assert set(app.function("traced").remote(run)) == set(range(500))
