"""State belongs to the server: containers come and go, inputs and results do not."""

from __future__ import annotations

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
