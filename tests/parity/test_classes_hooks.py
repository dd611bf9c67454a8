"""Classes: what runs when a container begins and when it leaves."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.kit import DeployedApp, Target


POLL = 0.05


def notes(app: DeployedApp, key: str, enough: Callable[[list[str]], bool], *, within: float = 20) -> list[str]:
    """What the containers of `key` have written, once that is `enough`."""
    deadline = time.monotonic() + within
    read = app.function("read")
    while not enough(lines := read.remote(key)):
        assert time.monotonic() < deadline, lines
        time.sleep(POLL)
    return list(lines)


@pytest.fixture
def key() -> str:
    return secrets.token_hex(4)


@pytest.mark.row("Classes", "modal.enter")
def test_those_for_the_snapshot_run_first_and_each_once_in_a_container(target: Target) -> None:
    ordered = target.deploy("classes.py").cls("Ordered")()
    steps = ordered.told.remote()
    assert sorted(steps[:2]) == ["snap a_second", "snap b_first"]
    assert sorted(steps[2:]) == ["y_last", "z_third"]
    assert ordered.told.remote() == steps


@pytest.mark.row("Classes", "modal.enter that raises")
def test_a_caller_is_told_the_exception_of_an_enter_that_raises(target: Target) -> None:
    refuses = target.deploy("classes.py").cls("Refuses")(reason="no weights here")
    with pytest.raises(ValueError, match="no weights here"):
        refuses.never.remote()


@pytest.mark.slow
@pytest.mark.row("Classes", "startup_timeout")
def test_an_enter_that_outlasts_the_startup_timeout_fails_the_call(target: Target) -> None:
    with pytest.raises(modal.exception.Error, match=r"(?i)start"):
        target.deploy("classes.py").cls("Slow")().never.remote()


@pytest.mark.row("Classes", "modal.exit")
def test_every_exit_runs_when_an_idle_container_is_scaled_down_and_what_it_writes_is_kept(
    target: Target, key: str
) -> None:
    app = target.deploy("class_exits.py")
    app.cls("Leaves")(key=key).serve.remote()
    lines = notes(app, key, lambda lines: len(lines) == 2)
    assert sorted(lines) == ["one after 1", "two"]


@pytest.mark.slow
@pytest.mark.row("Classes", "modal.exit")
def test_a_busy_container_of_a_replaced_version_finishes_and_then_runs_its_exits(target: Target, key: str) -> None:
    app = target.deploy("class_exits.py", name="class-exits-replaced")
    call = app.cls("Leaves")(key=key).busy.spawn(3)
    notes(app, key, lambda lines: "busy" in lines)
    target.deploy("class_exits.py", name="class-exits-replaced", again=True)
    assert call.get(timeout=20) == 1
    lines = notes(app, key, lambda lines: len(lines) == 3)
    assert sorted(lines) == ["busy", "one after 1", "two"]


@pytest.mark.row("Classes", "modal.exit")
def test_exits_run_when_the_app_is_stopped_also_of_a_container_that_works(target: Target, key: str) -> None:
    stopped = target.deploy("class_exits.py", name="class-exits-stopped", again=True)
    reader = target.deploy("class_exits.py")
    stopped.cls("Leaves")(key=f"{key}-idle").serve.remote()
    stopped.cls("Leaves")(key=f"{key}-busy").busy.spawn(300)
    notes(reader, f"{key}-busy", lambda lines: "busy" in lines)
    assert target.cli("app", "stop", "--yes", stopped.name).returncode == 0
    assert sorted(notes(reader, f"{key}-idle", lambda lines: len(lines) == 2)) == ["one after 1", "two"]
    assert sorted(notes(reader, f"{key}-busy", lambda lines: len(lines) == 3)) == ["busy", "one after 0", "two"]


@pytest.mark.slow
@pytest.mark.row("Classes", "modal.exit")
def test_an_exit_that_takes_a_while_is_let_finish_when_the_app_is_stopped(target: Target, key: str) -> None:
    stopped = target.deploy("class_exits.py", name="class-exits-slowly", again=True)
    stopped.cls("TakesItsTime")(key=key).serve.remote()
    assert target.cli("app", "stop", "--yes", stopped.name).returncode == 0
    assert notes(target.deploy("class_exits.py"), key, lambda lines: "ended" in lines) == ["begun", "ended"]


@pytest.mark.slow
@pytest.mark.row("Classes", "modal.exit")
def test_an_exit_that_raises_keeps_nothing_else_from_working(target: Target, key: str) -> None:
    app = target.deploy("class_exits.py")
    fails = app.cls("FailsToLeave")
    assert fails(key=key).serve.remote() == 1
    assert notes(app, key, bool) == ["raises"]
    assert fails(key=key).serve.remote() == 1


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.row("Classes", "modal.exit that takes too long")
def test_an_exit_is_killed_after_its_grace_period_of_30_s(target: Target, key: str) -> None:
    app = target.deploy("class_exits.py")
    lingers = app.cls("Lingers")(key=key)
    first = lingers.serve.remote()
    begun = notes(app, key, bool)
    assert begun[0] == "begun"
    assert lingers.serve.remote() != first  # who comes meanwhile has a container of his own
    notes(app, key, lambda lines: lines.count("still here") >= 26, within=60)
    over = time.monotonic() + 10  # when it would have written its last line, 34 s after its first
    assert "ended" not in notes(app, key, lambda lines: time.monotonic() > over)
