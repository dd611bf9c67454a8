"""What is read from a function's definition."""

from __future__ import annotations

import pytest
from modal_proto import api_pb2

from emulator.protocol.options import merged, unsupported
from emulator.scheduler.policy import PATIENCE, boot_backoff, limits, retry_delay, scaling_policy
from emulator.scheduler.settings import effective_settings, refusal


def test_a_definition_without_settings_gets_modals_defaults() -> None:
    policy = scaling_policy(api_pb2.Function(), machine_limit=16)
    assert (policy.min_containers, policy.max_containers, policy.buffer_containers) == (0, 16, 0)
    assert (policy.target_concurrency, policy.scaledown_window, policy.scaleup_window) == (1.0, 60.0, PATIENCE)
    assert (limits(api_pb2.Function()).timeout, limits(api_pb2.Function()).startup_timeout) == (300.0, 300.0)


@pytest.mark.parametrize(
    ("definition", "target"),
    [
        (api_pb2.Function(max_concurrent_inputs=100), 100.0),
        (api_pb2.Function(max_concurrent_inputs=100, target_concurrent_inputs=80), 80.0),
        (api_pb2.Function(batch_max_size=4), 4.0),
        (api_pb2.Function(is_server=True), float("inf")),
        (
            api_pb2.Function(
                is_server=True, autoscaler_settings=api_pb2.AutoscalerSettings(target_concurrency_float=1.5)
            ),
            1.5,
        ),
    ],
)
def test_the_target_is_what_the_definition_says_of_concurrency(definition: api_pb2.Function, target: float) -> None:
    assert scaling_policy(definition, machine_limit=1).target_concurrency == target


def test_an_explicit_zero_takes_back_what_the_definition_said() -> None:
    definition = api_pb2.Function(
        warm_pool_size=2, concurrency_limit=3, _experimental_buffer_containers=4, task_idle_timeout_secs=30
    )
    before = scaling_policy(definition, machine_limit=16)
    assert (before.min_containers, before.max_containers, before.buffer_containers) == (2, 3, 4)
    definition.autoscaler_settings.MergeFrom(
        api_pb2.AutoscalerSettings(min_containers=0, max_containers=0, buffer_containers=0)
    )
    after = scaling_policy(definition, machine_limit=16)
    assert (after.min_containers, after.max_containers, after.buffer_containers) == (0, 16, 0)
    assert after.scaledown_window == 30


def test_a_servers_target_of_zero_ends_scaling_by_requests() -> None:
    definition = api_pb2.Function(is_server=True, http_config=api_pb2.HTTPConfig(target_concurrency=5))
    assert scaling_policy(definition, machine_limit=1).target_concurrency == 5
    definition.autoscaler_settings.target_concurrency_float = 0
    assert scaling_policy(definition, machine_limit=1).target_concurrency == float("inf")


def test_a_minimum_above_the_machines_limit_is_honoured() -> None:
    definition = api_pb2.Function(autoscaler_settings=api_pb2.AutoscalerSettings(min_containers=20))
    assert scaling_policy(definition, machine_limit=16).max_containers == 20


def test_retries_back_off_up_to_their_longest_delay_and_then_end() -> None:
    policy = api_pb2.FunctionRetryPolicy(retries=4, initial_delay_ms=1000, backoff_coefficient=3.0, max_delay_ms=5000)
    assert [retry_delay(policy, n) for n in range(5)] == [1.0, 3.0, 5.0, 5.0, None]
    assert retry_delay(api_pb2.FunctionRetryPolicy(), 0) is None
    assert retry_delay(api_pb2.FunctionRetryPolicy(retries=1), 0) == 1.0


def test_failed_boots_back_off_from_a_quarter_of_a_second_to_thirty_seconds() -> None:
    assert [boot_backoff(n) for n in (0, 1, 2, 3, 9)] == [0.0, 0.25, 0.5, 1.0, 30.0]


def test_what_holds_is_the_defaults_under_the_definition_under_what_was_overridden() -> None:
    definition = api_pb2.Function(
        warm_pool_size=9, autoscaler_settings=api_pb2.AutoscalerSettings(min_containers=1, max_containers=4)
    )
    overrides = api_pb2.AutoscalerSettings(max_containers=0, buffer_containers=2)
    assert effective_settings(definition) == api_pb2.AutoscalerSettings(
        min_containers=1, max_containers=4, buffer_containers=0, scaledown_window=60
    )
    assert effective_settings(definition, overrides) == api_pb2.AutoscalerSettings(
        min_containers=1, max_containers=0, buffer_containers=2, scaledown_window=60
    )
    assert scaling_policy(definition, machine_limit=16, overrides=overrides).max_containers == 16


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"min_containers": 3, "max_containers": 2}, "cannot be greater"),
        ({"scaledown_window": 1}, "between 2 and 3600"),
        ({"scaledown_window": 3601}, "between 2 and 3600"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, int], why: str) -> None:
    overrides = api_pb2.AutoscalerSettings(**settings)  # type: ignore[arg-type]
    assert why in refusal(effective_settings(api_pb2.Function(), overrides))


def test_no_maximum_is_none_however_many_are_to_be_there_at_least() -> None:
    overrides = api_pb2.AutoscalerSettings(min_containers=100, max_containers=0)
    assert not refusal(effective_settings(api_pb2.Function(), overrides))


def test_with_options_lies_over_the_definition_and_leaves_it_alone() -> None:
    definition = api_pb2.Function(timeout_secs=10, secret_ids=["st-1"])
    options = api_pb2.FunctionOptions(
        timeout_secs=99, concurrency_limit=3, secret_ids=["st-2"], replace_secret_ids=True
    )
    result = merged(definition, options)
    assert (result.timeout_secs, result.autoscaler_settings.max_containers) == (99, 3)
    assert list(result.secret_ids) == ["st-2"]
    assert (definition.timeout_secs, list(definition.secret_ids)) == (10, ["st-1"])


def test_what_is_not_honoured_is_said() -> None:
    (note,) = unsupported(api_pb2.Function(experimental_options={"flash": "1"}))
    assert note == "its experimental options have no effect (flash)"
    assert unsupported(api_pb2.Function()) == []
