"""How many containers there are: what the settings of a deployed app say, and what overrides them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import modal
import modal.exception
import pytest

from tests.parity.autoscaling_kit import override, runners, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("scaling.py")


def listed(target: Target, app: DeployedApp) -> list[dict[str, str]]:
    """The app's containers, as the CLI lists them."""
    rows: list[dict[str, str]] = json.loads(target.cli("container", "list", "--json").stdout)
    return [row for row in rows if row["app_name"] == app.name]


@pytest.fixture
def updated(app: DeployedApp) -> Iterator[modal.Function[Any, Any, Any]]:
    """A function with settings of its own, which it has again in the end."""
    function = app.function("updated")
    yield function
    override(function, min_containers=0, max_containers=5, buffer_containers=0, scaledown_window=2)


@pytest.mark.row("Autoscaling", "max_containers")
@pytest.mark.slow
def test_a_map_runs_in_no_more_containers_than_the_maximum(app: DeployedApp) -> None:
    assert len(set(app.function("two_at_most").map([0.02] * 30))) == 2


@pytest.mark.row("Autoscaling", "min_containers")
def test_containers_of_the_minimum_are_there_before_anybody_calls(app: DeployedApp) -> None:
    kept = app.function("kept")
    until(lambda: runners(kept) == 1 and kept.get_current_stats().backlog == 0)
    assert kept.remote() == kept.remote()
    assert runners(kept) == 1


@pytest.mark.row("Autoscaling", "buffer_containers")
def test_while_one_works_another_stands_by(app: DeployedApp) -> None:
    buffered = app.function("buffered")
    assert runners(buffered) == 0
    call = buffered.spawn(0.5)
    until(lambda: runners(buffered) == 2)
    assert buffered.remote(0.0) != call.get()


@pytest.mark.row("Autoscaling", "scaledown_window")
@pytest.mark.row("Autoscaling", "scale to zero")
@pytest.mark.slow
def test_an_idle_container_stays_for_its_window_and_then_there_is_none(app: DeployedApp) -> None:
    function = app.function("short_lived")
    function.remote()
    idle_since = time.monotonic()
    until(lambda: runners(function) == 0)
    assert time.monotonic() - idle_since >= 1.8


@pytest.mark.row("Autoscaling", "target_inputs")
def test_containers_are_started_for_the_target_and_not_for_the_most_that_they_could_take(app: DeployedApp) -> None:
    targeted = app.function("targeted")
    calls = [targeted.spawn(0.6) for _ in range(4)]
    until(lambda: runners(targeted) == 2)
    assert len({call.get() for call in calls}) in (1, 2)


@pytest.mark.row("Autoscaling", "target_inputs")
def test_above_the_maximum_of_containers_one_takes_more_than_its_target(app: DeployedApp) -> None:
    began = list(app.function("bursting").map([0.6] * 4))
    assert max(began) - min(began) < 0.6


@pytest.mark.row("Autoscaling", "get_current_stats")
def test_statistics_say_what_waits_what_runs_and_where(app: DeployedApp) -> None:
    function = app.function("one_at_most")
    calls = [function.spawn(0.3) for _ in range(3)]
    until(lambda: function.get_current_stats().num_running_inputs == 1)
    stats = function.get_current_stats()
    assert (stats.backlog, stats.num_total_runners, stats.num_running_inputs) == (2, 1, 1)
    assert len({call.get() for call in calls}) == 1
    until(lambda: function.get_current_stats().num_running_inputs == 0)
    stats = function.get_current_stats()
    assert (stats.backlog, stats.num_total_runners, stats.num_running_inputs) == (0, 1, 0)


@pytest.mark.since("1.6")
@pytest.mark.row("Autoscaling", "Function.autoscaler.update")
def test_an_update_holds_at_once_and_leaves_alone_what_it_does_not_name(
    updated: modal.Function[Any, Any, Any],
) -> None:
    now = updated.autoscaler.update(min_containers=2)
    assert (now.min_containers, now.max_containers, now.scaledown_window, now.buffer_containers) == (2, 5, 30, 0)
    until(lambda: runners(updated) == 2)
    updated.autoscaler.update(scaledown_window=2)
    now = updated.autoscaler.update(min_containers=None, max_containers=None)
    assert (now.min_containers, now.max_containers, now.scaledown_window) == (0, None, 2)


@pytest.mark.since("1.6")
@pytest.mark.row("Autoscaling", "Function.autoscaler.settings")
def test_settings_are_those_that_hold_now(updated: modal.Function[Any, Any, Any]) -> None:
    updated.autoscaler.update(max_containers=3, scaledown_window=30)
    now = updated.autoscaler.settings()
    assert (now.min_containers, now.max_containers, now.scaledown_window, now.buffer_containers) == (0, 3, 30, 0)


@pytest.mark.since("1.6")
@pytest.mark.row("Autoscaling", "Function.autoscaler.update")
def test_settings_that_contradict_each_other_are_refused_and_change_nothing(
    updated: modal.Function[Any, Any, Any],
) -> None:
    updated.autoscaler.update(max_containers=3)
    with pytest.raises(modal.exception.InvalidError, match="min_containers"):
        updated.autoscaler.update(min_containers=4)
    assert updated.autoscaler.settings().min_containers == 0


@pytest.mark.row("Autoscaling", "update_autoscaler")
def test_the_older_way_to_update_holds_until_the_next_update(updated: modal.Function[Any, Any, Any]) -> None:
    override(updated, max_containers=1)
    override(updated, min_containers=1)
    until(lambda: runners(updated) == 1)
    assert len(set(updated.map([0.02] * 6))) == 1


@pytest.mark.row("Autoscaling", "update_autoscaler")
@pytest.mark.since("1.6")
def test_the_older_way_answers_with_what_holds_and_says_that_it_is_deprecated(
    updated: modal.Function[Any, Any, Any],
) -> None:
    with pytest.warns(modal.exception.DeprecationError, match=r"autoscaler\.update"):
        now = updated.update_autoscaler(max_containers=4, scaledown_window=5)
    assert (now.max_containers, now.scaledown_window) == (4, 5)


@pytest.mark.row("Autoscaling", "redeploy")
@pytest.mark.slow
def test_the_next_deploy_takes_an_update_back(target: Target) -> None:
    app = target.deploy("scaling.py", name="scaling-twice")
    function = app.function("updated")
    override(function, min_containers=1, max_containers=1)
    until(lambda: runners(function) == 1)
    target.deploy("scaling.py", name="scaling-twice", env={"UPDATED_AT_MOST": "2"}, again=True)
    until(lambda: runners(function) == 0)
    assert len(set(function.map([0.1] * 4))) == 2


@pytest.mark.row("Autoscaling", "Cls instance autoscaler")
def test_an_update_of_an_instance_is_of_its_own_containers_alone(app: DeployedApp) -> None:
    model = app.cls("Model")
    one, other = model(name="one"), model(name="other")
    override(one, min_containers=1)
    until(lambda: runners(one.where) == 1)
    assert runners(other.where) == 0
    assert other.where.remote() != one.where.remote()
    override(one, min_containers=0)


@pytest.mark.row("Autoscaling", "a pool for each variant")
def test_parameters_and_options_scale_each_on_their_own(app: DeployedApp) -> None:
    model = app.cls("Model")
    tight = model.with_options(max_containers=1)
    places = [model(name="a").where.remote(), model(name="b").where.remote(), tight(name="a").where.remote()]
    assert len(set(places)) == 3
    assert [runners(instance.where) for instance in (model(name="a"), model(name="b"), tight(name="a"))] == [1, 1, 1]


@pytest.mark.since("1.6")
@pytest.mark.row("Autoscaling", "Server.autoscaler")
def test_a_server_is_updated_as_a_function_is(app: DeployedApp) -> None:
    site = app.server("Site")
    now = site.autoscaler.update(min_containers=1, target_concurrency=1.5, scaleup_window=7)
    assert (now.min_containers, now.max_containers, now.target_concurrency, now.scaleup_window) == (1, 3, 1.5, 7)
    assert site.autoscaler.settings() == now
    now = site.autoscaler.update(min_containers=None, target_concurrency=None, scaledown_window=2)
    assert (now.min_containers, now.target_concurrency, now.scaledown_window) == (0, None, 2)


@pytest.mark.row("Autoscaling", "keep_warm")
def test_keep_warm_is_gone(app: DeployedApp) -> None:
    with pytest.raises(AttributeError, match="keep_warm"):
        _ = app.function("kept").keep_warm  # type: ignore[attr-defined]
    with pytest.raises(modal.exception.DeprecationError, match="min_containers"):
        modal.App("old").function(keep_warm=1)(lambda: None)  # type: ignore[call-arg]
    with pytest.raises(modal.exception.DeprecationError, match="max_containers"):
        modal.App("old").function(concurrency_limit=1)(lambda: None)  # type: ignore[call-arg]


@pytest.mark.row("Autoscaling", "figures")
@pytest.mark.slow
def test_a_container_that_starts_is_listed_as_pending(app: DeployedApp, target: Target) -> None:
    slow = app.cls("Slow")()
    before = {row["container_id"] for row in listed(target, app)}
    call = slow.where.spawn()
    until(lambda: runners(slow.where) == 1)
    (found,) = [row for row in listed(target, app) if row["container_id"] not in before]
    assert found["start_time"] == "Pending"
    assert call.get() == found["container_id"]
    (found,) = [row for row in listed(target, app) if row["container_id"] == found["container_id"]]
    assert found["start_time"] != "Pending"


@pytest.mark.row("Autoscaling", "figures")
@pytest.mark.slow
def test_the_list_of_containers_and_the_statistics_agree(app: DeployedApp, target: Target) -> None:
    function = app.function("two_at_most")
    calls = [function.spawn(0.8) for _ in range(4)]
    until(lambda: function.get_current_stats().num_running_inputs == 2)
    ids = {row["container_id"] for row in listed(target, app)}
    assert runners(function) == 2
    assert {call.get() for call in calls} <= ids
