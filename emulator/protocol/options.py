"""`with_options` over a definition, and what a definition asks for that is not honoured here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.schema import has_field

if TYPE_CHECKING:
    from emulator.state import FunctionRecord

HONOURED_EXPERIMENTS = frozenset({"max_concurrency"})

_SAME_NAME = (
    "timeout_secs",
    "max_concurrent_inputs",
    "target_concurrent_inputs",
    "batch_max_size",
    "batch_linger_ms",
    "cloud_provider_str",
    "routing_region",
)
_SCALING = {
    "concurrency_limit": "max_containers",
    "warm_pool_size": "min_containers",
    "buffer_containers": "buffer_containers",
    "task_idle_timeout_secs": "scaledown_window",
}


def merged(definition: api_pb2.Function, options: api_pb2.FunctionOptions) -> api_pb2.Function:
    """A definition with the options of one `with_options` call laid over it."""
    result = api_pb2.Function()
    result.CopyFrom(definition)
    given = {field.name: value for field, value in options.ListFields()}
    for name, value in given.items():
        if name in _SAME_NAME:
            setattr(result, name, value)
        elif name in _SCALING:
            setattr(result.autoscaler_settings, _SCALING[name], value)
    if "retry_policy" in given:
        result.retry_policy.CopyFrom(options.retry_policy)
    # The client sends these also when none of their parameters was given: what is not there was not meant.
    result.resources.MergeFrom(options.resources)
    if options.scheduler_placement.regions:
        del result.scheduler_placement.regions[:]
    result.scheduler_placement.MergeFrom(options.scheduler_placement)
    if options.replace_secret_ids:
        del result.secret_ids[:]
    result.secret_ids.extend(options.secret_ids)
    if options.replace_volume_mounts:
        del result.volume_mounts[:]
    result.volume_mounts.extend(options.volume_mounts)
    if options.replace_cloud_bucket_mounts:
        del result.cloud_bucket_mounts[:]
    result.cloud_bucket_mounts.extend(options.cloud_bucket_mounts)
    result.mount_ids.extend(options.mount_ids)
    return result


def rebind(bound: FunctionRecord, base: FunctionRecord) -> None:
    """Bring a function with bound parameters or options up to date with the one that it was made from."""
    bound.definition = merged(base.definition, bound.options)
    bound.version = base.version
    bound.urls = base.urls  # of all: a request's query says which it is for


def unsupported(definition: api_pb2.Function) -> list[str]:
    """What works on Modal and is not honoured by this emulator, in a few words each."""
    webhooks = [definition.webhook_config, *(m.webhook_config for m in definition.method_definitions.values())]
    experimental = sorted(set(definition.experimental_options) - HONOURED_EXPERIMENTS)
    found = {
        "its custom domains are served on the shared port alone, without DNS and TLS": any(
            webhook.custom_domains for webhook in webhooks
        ),
        "HTTP/2 is not spoken": definition.http_config.h2_enabled,
        "its traffic is not lifted and shifted": (
            has_field(definition.http_config, "lift_and_shift_config")
            and definition.http_config.HasField("lift_and_shift_config")
        ),
        f"its experimental options have no effect ({', '.join(experimental)})": bool(experimental),
    }
    return [note for note, applies in found.items() if applies]


def without_effect(definition: api_pb2.Function) -> list[str]:
    """What is recorded and shown, and means nothing on one machine: names, for one short line."""
    resources, placement = definition.resources, definition.scheduler_placement
    found = {
        "gpu": bool(resources.gpu_config.gpu_type or resources.gpu_config.count),
        "cpu": bool(resources.milli_cpu or resources.milli_cpu_max),
        "memory": bool(resources.memory_mb or resources.memory_mb_max),
        "ephemeral_disk": bool(resources.ephemeral_disk_mb),
        "rdma": resources.rdma,
        "region": bool(placement.regions),
        "nonpreemptible": placement.nonpreemptible,
        "cloud": bool(definition.cloud_provider_str or definition.cloud_provider),
        "memory snapshots": definition.checkpointing_enabled or definition.is_checkpointing_function,
        "GPU snapshots": definition.enable_gpu_snapshot or definition._experimental_enable_gpu_snapshot,
        "i6pn": definition.i6pn_enabled,
        "restrict_modal_access": definition.untrusted,
    }
    return [name for name, asked_for in found.items() if asked_for]


def remark(definition: api_pb2.Function, base: api_pb2.Function | None = None) -> str:
    """One line about what does not hold here, or nothing; beside `base`, only what that has not said already."""
    notes, ignored = unsupported(definition), without_effect(definition)
    if base is not None:
        notes = [note for note in notes if note not in unsupported(base)]
        ignored = [name for name in ignored if name not in without_effect(base)]
    if ignored:
        notes.append(f"no effect here: {', '.join(ignored)}")
    return "; ".join(notes)
