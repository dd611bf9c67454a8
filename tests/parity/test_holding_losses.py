"""State belongs to the server: containers come and go, inputs and results do not."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


def end_all(target: Target, function: str) -> None:
    """Kill every container of a function, and wait until they are gone."""
    emulator = target.emulator
    for container in emulator.containers(function=function):
        emulator.kill_container(container.task_id)
    emulator.wait(lambda: not emulator.containers(function=function))


@pytest.mark.row("How it holds", "state outlives containers")
@pytest.mark.emulator_only("it kills a container")
def test_a_result_is_there_when_the_container_that_made_it_is_not(target: Target) -> None:
    answer = target.deploy("losses.py").function("answer")
    call = answer.spawn()
    first = call.get(timeout=30)
    end_all(target, "answer")
    again = modal.FunctionCall.from_id(call.object_id, client=target.client)
    assert again.get(timeout=30) == first
    assert answer.remote() != first


@pytest.mark.slow
@pytest.mark.row("How it holds", "1,000 inputs of a `.map`")
def test_a_thousand_inputs_are_each_worked_on_once_and_answered_in_order(target: Target) -> None:
    app = target.deploy("losses.py")
    folder = target.unique("thousand")
    assert list(app.function("line").map(range(1000), kwargs={"folder": folder})) == list(range(1000))
    assert Counter(app.function("written").remote(folder)) == Counter(range(1000))


@pytest.mark.slow
@pytest.mark.row("How it holds", "containers that die during a `.map`")
@pytest.mark.emulator_only("it kills containers")
def test_containers_that_are_killed_at_random_lose_no_input_and_double_no_result(target: Target) -> None:
    slow, emulator = target.deploy("losses.py").function("slow"), target.emulator
    killed, over = set[str](), threading.Event()

    def kill() -> None:
        chance = random.Random(4)
        while not over.wait(0.3):
            ready = [c.task_id for c in emulator.containers(function="slow") if c.state == "ready"]
            if ready:
                killed.add(chosen := chance.choice(ready))
                try:
                    emulator.kill_container(chosen)
                except LookupError:
                    killed.discard(chosen)  # it has left by itself

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        results = list(slow.map(range(500), order_outputs=False))
    finally:
        over.set()
        killer.join()
    assert sorted(x for x, _ in results) == list(range(500))
    assert len(killed) >= 3
    assert killed & {task for _, task in results}, "those that were killed had worked"
