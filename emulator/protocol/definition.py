"""What a function's definition may say: refused as Modal's server refuses it, or by name where it is not there. Pure.

`FIELDS` names every field of a `Function` and what becomes of it here; a test holds it against the installed client's
descriptor, so that a field of a new version is noticed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from grpclib import GRPCError, Status

from emulator.protocol.dispatch import invalid
from emulator.protocol.schema import has_field
from emulator.scheduler.schedules import InvalidScheduleError, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from modal_proto import api_pb2

Fate = Literal["honoured", "recorded", "refused", "server's", "internal"]
"""honoured: something here depends on it. recorded: kept, and shown by `Function.info()`, without effect here, which is
said at the deploy where it would have one on Modal. refused: a deploy that has it fails. server's: for the server to
fill in. internal: of Modal's own machines or of older clients; no parameter of the client leads to it."""

LONGEST_TIMEOUT = 24 * 60 * 60
"""Seconds: https://modal.com/docs/guide/timeouts."""
LARGEST_DISK = 3 * 1024 * 1024
"""MiB: https://modal.com/docs/guide/resources."""
MOST_GPUS = 8
"""Of one container: https://modal.com/docs/guide/gpu."""

KNOWN_GPUS = frozenset(
    {"T4", "L4", "A10", "A10G", "A100", "A100-40GB", "A100-80GB", "L40S", "RTX-PRO-6000", "H100", "H100!", "H200"}
    | {"B200", "B200+", "B300", "ANY"}
)
KNOWN_CLOUDS = frozenset({"aws", "gcp", "oci", "auto"})


def _all(fate: Fate, names: str) -> dict[str, Fate]:
    return dict.fromkeys(names.split(), fate)


FIELDS: dict[str, Fate] = {
    **_all(
        "honoured",
        """
        module_name function_name implementation_name function_serialized class_serialized definition_type function_type
        is_class is_method is_server is_sessioned class_parameter_info method_definitions method_definitions_set
        app_name mount_ids image_id secret_ids volume_mounts object_dependencies webhook_config http_config
        retry_policy timeout_secs startup_timeout_secs schedule single_use_containers max_inputs
        max_concurrent_inputs target_concurrent_inputs batch_max_size batch_linger_ms
        autoscaler_settings warm_pool_size concurrency_limit task_idle_timeout_secs _experimental_buffer_containers
        function_schema supported_input_formats supported_output_formats experimental_options
        _experimental_concurrent_cancellations block_network network_access
        """,
    ),
    **_all(
        "recorded",
        """
        resources scheduler_placement cloud_provider_str cloud_provider routing_region untrusted i6pn_enabled
        checkpointing_enabled is_checkpointing_function enable_gpu_snapshot _experimental_enable_gpu_snapshot
        """,
    ),
    **_all(
        "refused",
        """
        pty_info cloud_bucket_mounts s3_mounts shared_volume_mounts proxy_id rate_limit _experimental_group_size
        _experimental_fabric_size _experimental_task_templates _experimental_task_templates_enabled
        _experimental_custom_scaling
        """,
    ),
    **_all("server's", "web_url web_url_info custom_domain_info flash_service_urls flash_service_label"),
    **_all(
        "internal",
        """
        runtime runtime_debug runtime_perf_record worker_id snapshot_debug checkpoint is_builder_function
        is_auto_snapshot mount_client_dependencies
        """,
    ),
}


def check(definition: api_pb2.Function) -> None:
    """Raises `GRPCError`: INVALID_ARGUMENT for what Modal refuses, UNIMPLEMENTED by name for what is not there."""
    for complaint in _complaints(definition):
        raise invalid(f"Function '{definition.function_name}': {complaint}")
    if missing := ", ".join(_missing(definition)):
        message = f"Function '{definition.function_name}' uses what the emulator does not implement: {missing}"
        raise GRPCError(Status.UNIMPLEMENTED, message)


def blocks_network(definition: api_pb2.Function) -> bool:
    """Whether its containers are to reach nothing but Modal."""
    return definition.block_network or _network_access(definition) == "BLOCKED"


def _network_access(definition: api_pb2.Function) -> str:
    """Name of the kind of access that it asks for, which clients before 1.6 cannot."""
    if not has_field(definition, "network_access"):
        return ""
    access = definition.network_access
    return access.NetworkAccessType.Name(access.network_access_type)


def doubts(definition: api_pb2.Function) -> list[str]:
    """What Modal's documentation does not know, and Modal may refuse: new machines come faster than releases."""
    gpu, cloud = definition.resources.gpu_config, definition.cloud_provider_str
    unknown_gpu = gpu.gpu_type and gpu.gpu_type not in KNOWN_GPUS
    found = {
        f"Modal's documentation knows no GPU {gpu.gpu_type!r}": unknown_gpu,
        f"Modal's documentation knows no cloud {cloud!r}": cloud and cloud.lower() not in KNOWN_CLOUDS,
        "Modal's documentation has `nonpreemptible` without a GPU only": (
            gpu.gpu_type and definition.scheduler_placement.nonpreemptible
        ),
    }
    return [doubt for doubt, applies in found.items() if applies]


def _complaints(definition: api_pb2.Function) -> Iterable[str]:
    if definition.timeout_secs > LONGEST_TIMEOUT:
        yield f"`timeout` must be between 1 and {LONGEST_TIMEOUT} seconds, not {definition.timeout_secs}"
    resources = definition.resources
    if resources.ephemeral_disk_mb > LARGEST_DISK:
        yield f"`ephemeral_disk` must be at most {LARGEST_DISK} MiB, not {resources.ephemeral_disk_mb}"
    if resources.gpu_config.count > MOST_GPUS:
        yield f"`gpu` must ask for at most {MOST_GPUS} GPUs, not {resources.gpu_config.count}"
    if definition.HasField("schedule"):
        try:
            parse(definition.schedule)
        except InvalidScheduleError as error:
            yield f"`schedule`: {error}"


def _missing(definition: api_pb2.Function) -> Iterable[str]:
    found = {
        "CloudBucketMount": definition.cloud_bucket_mounts or definition.s3_mounts,
        "NetworkFileSystem": definition.shared_volume_mounts,
        "Proxy": definition.HasField("proxy_id"),
        "clusters of containers (@modal.clustered)": definition._experimental_group_size > 0,
        "a list of allowed addresses": _network_access(definition) == "ALLOWLIST",
        "interactive mode (`modal run --interactive`)": definition.pty_info.enabled or definition.pty_info.pty_type,
        "a rate limit": definition.HasField("rate_limit"),
        "task templates": definition._experimental_task_templates_enabled or definition._experimental_task_templates,
        "custom scaling": definition._experimental_custom_scaling,
        "a schedule of a web function": definition.HasField("schedule") and definition.webhook_config.type,
    }
    return (name for name, asked_for in found.items() if asked_for)
