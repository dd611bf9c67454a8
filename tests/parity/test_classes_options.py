"""Classes: options, concurrency and batching given where an instance is made, and autoscaling that is changed later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from modal.exception import FunctionTimeoutError, InvalidError

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("classes.py")


@pytest.mark.row("Classes", ".with_options")
def test_options_make_containers_of_their_own_and_replace_only_what_they_name(app: DeployedApp) -> None:
    options = app.cls("Options")
    plain, other = options(), options.with_options(env={"COLOUR": "blue"}, timeout=1)()
    assert plain.variable.remote("COLOUR") == "red"
    assert other.variable.remote("COLOUR") == "blue"
    assert plain.task.remote() != other.task.remote()
    with pytest.raises(FunctionTimeoutError):
        other.sleep.remote(20)


@pytest.mark.row("Classes", ".with_options")
def test_equal_options_share_their_containers_and_options_add_up(app: DeployedApp) -> None:
    options = app.cls("Options")
    first = options.with_options(scaledown_window=50)()
    again = options.with_options(scaledown_window=50)()
    both = options.with_options(scaledown_window=50).with_options(env={"COLOUR": "green"})()
    assert first.task.remote() == again.task.remote()
    assert both.task.remote() != first.task.remote()
    assert both.variable.remote("COLOUR") == "green"


@pytest.mark.row("Classes", ".with_concurrency")
def test_inputs_share_a_container_once_concurrency_is_asked_for(app: DeployedApp) -> None:
    shared = app.cls("Options").with_concurrency(max_inputs=3)()
    calls = [shared.together.spawn(3) for _ in range(3)]
    assert len({call.get(timeout=20) for call in calls}) == 1


@pytest.mark.row("Classes", ".with_concurrency")
def test_a_target_above_the_maximum_is_refused(app: DeployedApp) -> None:
    with pytest.raises(InvalidError, match="target_inputs"):
        app.cls("Options").with_concurrency(max_inputs=2, target_inputs=3)


@pytest.mark.row("Classes", ".with_batching")
def test_inputs_come_together_once_batching_is_asked_for(app: DeployedApp) -> None:
    batched = app.cls("Batches").with_batching(max_batch_size=3, wait_ms=400)()
    assert sorted(batched.sizes.map(range(6))) == [3] * 6


@pytest.mark.row("Classes", "@batched on a method")
def test_inputs_of_a_batched_method_come_together(app: DeployedApp) -> None:
    assert sorted(app.cls("Batched")().sizes.map(range(6))) == [3] * 6


@pytest.mark.row("Classes", "@concurrent on a class")
def test_a_concurrent_class_takes_several_inputs_in_a_container(app: DeployedApp) -> None:
    concurrent = app.cls("Concurrent")()
    calls = [concurrent.together.spawn(4) for _ in range(4)]
    assert len({call.get(timeout=20) for call in calls}) == 1


@pytest.mark.row("Classes", "update_autoscaler of an instance")
def test_the_autoscaler_of_one_instance_is_changed_and_that_of_the_others_is_not(app: DeployedApp) -> None:
    parameters = app.cls("Parameters")
    changed = parameters(text="scaled").update_autoscaler(max_containers=3, scaledown_window=33)
    assert (changed.max_containers, changed.scaledown_window) == (3, 33)
    other = parameters(text="not scaled").update_autoscaler(buffer_containers=0)
    assert (other.max_containers, other.scaledown_window) != (3, 33)
