"""What the autoscaler does when much comes at once, and when containers fail."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parity.autoscaling_kit import override, runners, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.emulator import ContainerInfo
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("scaling.py")


def watched(
    target: Target, app: DeployedApp, function: str, work: Callable[[], object]
) -> tuple[object, list[list[ContainerInfo]]]:
    """What `work` returns, and what containers of a function there were at each look while it went on."""
    seen = []
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        while not working.done():
            seen.append(target.emulator.containers(app=app.name, function=function))
            time.sleep(0.002)
        return working.result(), seen


@pytest.mark.row("Autoscaling", "starts at once")
@pytest.mark.emulator_only("looks at containers while they start")
def test_a_map_starts_two_containers_at_a_time(target: Target, app: DeployedApp) -> None:
    def work() -> object:
        return list(app.function("updated").map([0.3] * 10))

    _, seen = watched(target, app, "updated", work)
    assert max(len(containers) for containers in seen) >= 3
    assert max(sum(found.state == "starting" for found in containers) for containers in seen) == 2


@pytest.mark.row("Autoscaling", "max_containers")
@pytest.mark.emulator_only("kills containers, and looks at them all the while")
@pytest.mark.slow
def test_there_is_never_one_more_than_the_maximum_though_containers_die_and_are_stopped(
    target: Target, app: DeployedApp
) -> None:
    emulator = target.emulator
    ended: list[bool] = []

    def work() -> object:
        return list(app.function("two_at_most").map([0.03] * 100))

    def disturbed() -> object:
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(work)
            while not working.done():
                time.sleep(0.3)
                ready = [c for c in emulator.containers(app=app.name, function="two_at_most") if c.state == "ready"]
                if ready and len(ended) % 2:
                    emulator.kill_container(ready[0].task_id)
                elif ready:
                    stopped = target.cli("container", "stop", "--yes", "--graceful", ready[0].task_id)
                    assert stopped.returncode == 0 or "already stopped" in stopped.stderr, stopped.stderr
                ended.append(bool(ready))
            return working.result()

    results, seen = watched(target, app, "two_at_most", disturbed)
    assert isinstance(results, list)
    assert len(results) == 100
    assert sum(ended) >= 2
    assert max(len(containers) for containers in seen) == 2


@pytest.mark.row("Autoscaling", "max_containers")
@pytest.mark.slow
def test_a_maximum_that_is_lowered_is_reached_while_there_is_more_to_do(app: DeployedApp) -> None:
    function = app.function("updated")
    override(function, max_containers=4)
    calls = [function.spawn(0.4) for _ in range(24)]
    until(lambda: runners(function) == 4)
    override(function, max_containers=1)
    until(lambda: function.get_current_stats().num_running_inputs == 1)
    stats = function.get_current_stats()
    assert stats.num_total_runners == 1
    assert stats.backlog > 0
    assert len([call.get() for call in calls]) == 24
    override(function, max_containers=5)


@pytest.mark.row("Autoscaling", "containers that fail to start")
def test_what_keeps_containers_from_starting_reaches_who_waits(app: DeployedApp) -> None:
    with pytest.raises(RuntimeError, match="these weights are broken"):
        app.cls("Broken")().work.remote()


@pytest.mark.row("Autoscaling", "containers that fail to start")
@pytest.mark.emulator_only("counts containers while they come and go")
@pytest.mark.slow
def test_containers_that_die_young_do_not_spin_the_machine(target: Target) -> None:
    _, seen = watched(target, target.deploy("dying.py"), "DiesYoung", lambda: time.sleep(8))
    made = {found.task_id for containers in seen for found in containers}
    # Without a back-off there would be fifty; with it they come after 0, 0.25, 0.5, 1, 2 and 4 seconds, and it goes on.
    assert len(made) <= 8


@pytest.mark.row("Autoscaling", "starts at once")
@pytest.mark.slow
def test_containers_that_wait_for_another_function_to_start_do_not_keep_it_from_starting(app: DeployedApp) -> None:
    nested = app.cls("Nested")()
    calls = [nested.where.spawn() for _ in range(3)]
    assert len({call.get(timeout=30) for call in calls}) == 1
