"""Containers that die and boots that fail because a test says so, as the client sees them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import faulty
import pytest
from modal.exception import InternalFailure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.emulator import Emulator
    from emulator.faults.faults import Faults
    from emulator.testing.apps import Deploy, RunningApp


pytestmark = pytest.mark.any_containers


@pytest.fixture(scope="module")
def app(module_deploy: Deploy) -> RunningApp:
    return module_deploy(faulty)


@pytest.fixture
def faults(app: RunningApp) -> Iterator[Faults]:
    yield app.emulator.faults
    app.emulator.faults.clear()


@pytest.fixture
def emulator(app: RunningApp) -> Emulator:
    return app.emulator


def test_a_container_that_is_killed_is_replaced_and_has_forgotten(faults: Faults, emulator: Emulator) -> None:
    counter = faulty.Counter()
    assert [counter.next.remote() for _ in range(2)] == [1, 2]
    (killed,) = faults.kill("Counter")
    assert counter.next.remote() == 1
    assert killed not in [container.task_id for container in emulator.containers(function="Counter")]


def test_a_container_dies_at_its_nth_input_which_another_takes_over(faults: Faults) -> None:
    counter = faulty.Counter()
    with suppress(LookupError):
        faults.kill("Counter")  # another test's
    assert counter.next.remote() == 1
    fault = faults.kill_at_input("Counter", 2)
    assert counter.next.remote() == 2
    assert not fault.struck
    assert counter.next.remote() == 1  # the second since: a new container's first
    assert fault.struck == 1
    assert counter.next.remote() == 2


def test_boots_that_fail_are_tried_again(faults: Faults) -> None:
    fault = faults.fail_boot("double", times=2)
    assert double(faults, 4) == 8
    assert fault.struck == 2


def test_boots_that_go_on_failing_are_told_to_the_caller(faults: Faults) -> None:
    faults.fail_boot("double", times=None, exit_code=137)
    with pytest.raises(InternalFailure, match="exit code 137"):
        double(faults, 4)


def double(faults: Faults, x: int) -> int:
    """By a container that boots for it."""
    with suppress(LookupError):
        faults.kill("double")
    return faulty.double.remote(x)


def test_a_boot_takes_longer(faults: Faults, emulator: Emulator) -> None:
    fault = faults.slow_boot("slow", 0.3)
    call = faulty.slow.spawn(3)
    emulator.wait(lambda: bool(fault.struck))
    (container,) = emulator.containers(function="slow")
    assert (container.state, container.pid) == ("starting", None)
    assert call.get() == 3


def test_a_lifted_fault_strikes_no_more(faults: Faults) -> None:
    fault = faults.kill_at_input("double", times=None)
    fault.lift()
    assert faulty.double.remote(1) == 2
    assert not fault.struck


def test_faults_can_be_of_one_app_only(faults: Faults) -> None:
    fault = faults.kill_at_input("double", app="faulty")
    assert faulty.double.remote(1) == 2
    assert fault.struck == 1
    with pytest.raises(LookupError, match="no app that is deployed has a function 'dubble'"):
        faults.fail_boot("dubble")
    with pytest.raises(LookupError, match="'nobody' has no container"):
        faults.kill("nobody")
    with pytest.raises(ValueError, match="at least once"):
        faults.fail_boot("double", times=0)
    with pytest.raises(ValueError, match="counted from 1"):
        faults.kill_at_input("double", 0)
