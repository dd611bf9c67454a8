"""Containers and inputs that have ended are remembered, with how long each part took, up to a number."""

from __future__ import annotations

import pytest
from modal_proto import api_pb2

import emulator.scheduler.history as history_module
from emulator.protocol.stats import percentile
from emulator.scheduler.calls import Calls
from emulator.scheduler.history import History, Task
from emulator.state import FunctionRecord
from tests.emulator.heart_kit import FakeMachine, TurnedClock, machine, settle, succeeded, taken

__all__ = ["machine"]

RECORD = FunctionRecord("fu-1", "ap-1", "f")


async def test_a_containers_times_are_those_of_its_life(machine: FakeMachine) -> None:
    history = machine.scheduler._services.history
    pool = machine.deploy()
    machine.call()
    await settle()
    (container,) = machine.started
    await machine.clock.turn(2)
    item = await taken(pool, container)
    await machine.clock.turn(3)
    pool.work.complete(pool.slots[container.task_id], succeeded(item))
    task = history.task(container.task_id)
    assert task is not None
    began = task.enqueued_at
    assert (task.started_at, task.ready_at, task.finished_at) == (began, began + 2, 0.0)
    container.end(3)
    await settle()
    assert (task.finished_at, task.failed) == (began + 5, True)


async def test_a_container_that_is_asked_to_go_has_not_failed(machine: FakeMachine) -> None:
    pool = machine.deploy()
    machine.call()
    await settle()
    (container,) = machine.started
    pool.kill(pool.slots[container.task_id])
    await settle()
    task = machine.scheduler._services.history.task(container.task_id)
    assert task is not None
    assert task.finished_at
    assert not task.failed


def test_the_oldest_that_ended_are_forgotten_and_none_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_module, "TASKS_KEPT", 2)
    told: list[Task] = []
    history = History(told.append)
    for number in range(4):
        history.begun(f"ta-{number}", RECORD, 1.0)
    for number in (2, 1, 3):
        history.finished(f"ta-{number}", 2.0, failed=False)
    assert history.task("ta-0") is not None, "it lives"
    assert [task.task_id for task in told] == ["ta-2", "ta-1", "ta-3"]
    history.finished("ta-0", 3.0, failed=False)
    assert sorted(task.task_id for task in history.tasks()) == ["ta-0", "ta-3"]


def test_an_input_is_remembered_with_its_outcome_when_it_has_one() -> None:
    clock = TurnedClock()
    history = History()
    calls = Calls(clock, done=history.done)
    call = calls.create("fu-1")
    item = calls.add_input(call, api_pb2.FunctionInput(method_name="greet"), 0)
    assert calls.unfinished({"fu-1"}) == [item]
    output = api_pb2.FunctionGetOutputsItem(
        task_id="ta-1", result=api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT)
    )
    calls.finish(item, output)
    assert calls.unfinished({"fu-1"}) == []
    (done,) = history.inputs(frozenset({"fu-1"}))
    assert (done.method, done.task_id, done.enqueued_at) == ("greet", "ta-1", 1000.0)
    assert done.status == api_pb2.GenericResult.GENERIC_STATUS_TIMEOUT
    assert list(history.inputs(frozenset({"fu-2"}))) == []


@pytest.mark.parametrize(("points", "value"), [(5000, 5.0), (9000, 9.0), (9900, 10.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_values(points: int, value: float) -> None:
    assert percentile([float(number) for number in range(1, 11)], points) == value
