"""`with_options` over a definition, and what a definition asks for that is not honoured here. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

if TYPE_CHECKING:
    from emulator.state import FunctionRecord

_SAME_NAME = ("timeout_secs", "max_concurrent_inputs", "target_concurrent_inputs", "batch_max_size", "batch_linger_ms")
_MESSAGES = ("resources", "retry_policy", "scheduler_placement")
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
        elif name in _MESSAGES:
            getattr(result, name).CopyFrom(value)
    if options.replace_secret_ids:
        del result.secret_ids[:]
    result.secret_ids.extend(options.secret_ids)
    if options.replace_volume_mounts:
        del result.volume_mounts[:]
    result.volume_mounts.extend(options.volume_mounts)
    result.mount_ids.extend(options.mount_ids)
    return result


def rebind(bound: FunctionRecord, base: FunctionRecord) -> None:
    """Bring a function with bound parameters or options up to date with the one that it was made from."""
    bound.definition = merged(base.definition, bound.options)
    bound.version = base.version


def unsupported(definition: api_pb2.Function) -> list[str]:
    """One line for each thing that works on Modal and is not honoured by this emulator."""
    notes = []
    if definition.HasField("schedule"):
        notes.append("its schedule is not run: this emulator has no timer for schedules yet")
    if definition.cloud_bucket_mounts:
        notes.append("its cloud bucket mounts are not mounted")
    if definition.HasField("proxy_id"):
        notes.append("its static outbound proxy is not used")
    if definition.block_network:
        notes.append("block_network is not enforced")
    if definition._experimental_group_size > 1:
        notes.append("clusters of containers are not formed: every container runs alone")
    return notes
