"""What a function's definition may say: every field has a fate, and what can not be had is refused by name."""

from __future__ import annotations

import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.protocol.definition import FIELDS, check, doubts
from emulator.protocol.options import merged

Schedule = api_pb2.Schedule


def test_every_field_of_the_installed_client_s_function_has_a_fate() -> None:
    """A new client may bring a field that nobody here has thought about: then this fails, and names it."""
    assert set(api_pb2.Function.DESCRIPTOR.fields_by_name) - set(FIELDS) == set()


def test_no_fate_is_kept_for_fields_that_no_supported_client_has() -> None:
    assert set(FIELDS) - set(api_pb2.Function.DESCRIPTOR.fields_by_name) == set()


def test_every_option_of_with_options_lies_over_the_definition() -> None:
    options = api_pb2.FunctionOptions(
        secret_ids=["st-1"],
        mount_ids=["mo-1"],
        resources=api_pb2.Resources(milli_cpu=1),
        retry_policy=api_pb2.FunctionRetryPolicy(retries=1),
        concurrency_limit=1,
        timeout_secs=1,
        task_idle_timeout_secs=1,
        warm_pool_size=1,
        volume_mounts=[api_pb2.VolumeMount(volume_id="vo-1")],
        target_concurrent_inputs=1,
        buffer_containers=1,
        max_concurrent_inputs=1,
        batch_max_size=1,
        batch_linger_ms=1,
        scheduler_placement=api_pb2.SchedulerPlacement(regions=["eu"]),
        cloud_provider_str="aws",
        cloud_bucket_mounts=[api_pb2.CloudBucketMount(bucket_name="b")],
        routing_region="eu",
    )
    not_values = {"replace_volume_mounts", "replace_secret_ids", "replace_cloud_bucket_mounts"}
    given = {field.name for field, _ in options.ListFields()}
    # No client sends the last one: it is of Modal's own servers.
    assert set(api_pb2.FunctionOptions.DESCRIPTOR.fields_by_name) - given - not_values == {"pinned_app_version"}
    nothing = api_pb2.Function()
    for field, _ in options.ListFields():
        one = api_pb2.FunctionOptions()
        one.CopyFrom(options)
        for other in given - {field.name}:
            one.ClearField(other)  # type: ignore[arg-type]
        assert merged(nothing, one) != merged(nothing, api_pb2.FunctionOptions()), field.name


def test_options_add_to_the_resources_and_the_placement_that_there_are() -> None:
    gpu = api_pb2.GPUConfig(gpu_type="H100", count=1)
    placement = api_pb2.SchedulerPlacement(regions=["us"], nonpreemptible=True)
    definition = api_pb2.Function(
        resources=api_pb2.Resources(milli_cpu=500, gpu_config=gpu), scheduler_placement=placement
    )
    unchanged = merged(definition, api_pb2.FunctionOptions(resources=api_pb2.Resources(), timeout_secs=5))
    assert unchanged.resources == definition.resources
    changed = merged(
        definition,
        api_pb2.FunctionOptions(
            resources=api_pb2.Resources(milli_cpu=4000), scheduler_placement=api_pb2.SchedulerPlacement(regions=["eu"])
        ),
    )
    assert (changed.resources.milli_cpu, changed.resources.gpu_config) == (4000, gpu)
    assert list(changed.scheduler_placement.regions) == ["eu"]
    assert changed.scheduler_placement.nonpreemptible


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        (api_pb2.Function(timeout_secs=86_401), "`timeout` must be between 1 and 86400 seconds, not 86401"),
        (
            api_pb2.Function(resources=api_pb2.Resources(ephemeral_disk_mb=3_145_729)),
            "`ephemeral_disk` must be at most 3145728 MiB",
        ),
        (
            api_pb2.Function(resources=api_pb2.Resources(gpu_config=api_pb2.GPUConfig(gpu_type="T4", count=9))),
            "at most 8 GPUs, not 9",
        ),
        (api_pb2.Function(schedule=Schedule(cron=Schedule.Cron(cron_string="99 * * * *"))), "bad minute"),
        (api_pb2.Function(schedule=Schedule(period=Schedule.Period())), "`schedule`: a Period"),
    ],
)
def test_what_modal_refuses_is_refused_and_says_of_which_function(definition: api_pb2.Function, complaint: str) -> None:
    definition.function_name = "f"
    with pytest.raises(GRPCError) as refused:
        check(definition)
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert refused.value.message is not None
    assert refused.value.message.startswith("Function 'f': ")
    assert complaint in refused.value.message


@pytest.mark.parametrize(
    ("definition", "name"),
    [
        (api_pb2.Function(cloud_bucket_mounts=[api_pb2.CloudBucketMount()]), "CloudBucketMount"),
        (api_pb2.Function(shared_volume_mounts=[api_pb2.SharedVolumeMount()]), "NetworkFileSystem"),
        (api_pb2.Function(proxy_id="pr-1"), "Proxy"),
        (api_pb2.Function(_experimental_group_size=2), "clusters of containers"),
        (
            api_pb2.Function(network_access=api_pb2.NetworkAccess(network_access_type=api_pb2.NetworkAccess.ALLOWLIST)),
            "a list of allowed addresses",
        ),
        (api_pb2.Function(rate_limit=api_pb2.RateLimit(limit=1)), "a rate limit"),
        (api_pb2.Function(_experimental_custom_scaling=True), "custom scaling"),
        (api_pb2.Function(_experimental_task_templates_enabled=True), "task templates"),
        (
            api_pb2.Function(
                schedule=Schedule(period=Schedule.Period(days=1)),
                webhook_config=api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_FUNCTION),
            ),
            "a schedule of a web function",
        ),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(definition: api_pb2.Function, name: str) -> None:
    with pytest.raises(GRPCError, match="does not implement") as refused:
        check(definition)
    assert refused.value.status is Status.UNIMPLEMENTED
    assert name in str(refused.value.message)


def test_a_plain_definition_is_fine_at_the_limits() -> None:
    gpu = api_pb2.GPUConfig(gpu_type="H100", count=8)
    resources = api_pb2.Resources(ephemeral_disk_mb=3_145_728, gpu_config=gpu)
    check(api_pb2.Function(timeout_secs=86_400, resources=resources))
    assert doubts(api_pb2.Function(resources=resources, cloud_provider_str="aws")) == []


def test_kinds_of_machines_that_modal_does_not_document_are_doubted_not_refused() -> None:
    resources = api_pb2.Resources(gpu_config=api_pb2.GPUConfig(gpu_type="H1000", count=1))
    placement = api_pb2.SchedulerPlacement(nonpreemptible=True)
    definition = api_pb2.Function(resources=resources, cloud_provider_str="azure", scheduler_placement=placement)
    assert doubts(definition) == [
        "Modal's documentation knows no GPU 'H1000'",
        "Modal's documentation knows no cloud 'azure'",
        "Modal's documentation has `nonpreemptible` without a GPU only",
    ]
    check(definition)
