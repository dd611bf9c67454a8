"""Functions of an earlier version of an app, for `from_name(…, version=…)`. They run beside those in force."""

from __future__ import annotations

from typing import TYPE_CHECKING

from grpclib import GRPCError, Status
from modal_proto import api_pb2

from emulator.ids import derived_id
from emulator.protocol.dispatch import not_found
from emulator.state import FunctionRecord

if TYPE_CHECKING:
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import App, Definition, State


def pinned(state: State, scheduler: Scheduler, app: App, number: int, tag: str) -> FunctionRecord:
    """A function as that version of its app has it, with containers of its own where later versions have changed it.

    Raises `GRPCError` where there is no such version or function, and for what is reached by an address.
    """
    version = app.versions.get(number)
    if version is None:
        raise not_found(f"App '{app.name}' has no version {number}")
    function_id = version.function_ids.get(tag)
    if function_id is None:
        raise not_found(f"Version {number} of App '{app.name}' has no function '{tag}'")
    kept, in_force = version.definitions[function_id], app.versions.get(app.version)
    if in_force is not None and in_force.definitions.get(function_id) is kept:
        return state.functions[function_id]
    if _has_address(kept.definition):
        raise GRPCError(
            Status.UNIMPLEMENTED, f"The emulator does not implement addresses of earlier versions (of '{tag}')"
        )
    pinned_id = derived_id("fu", function_id.encode(), b"version", str(number).encode())
    return state.functions.get(pinned_id) or _made(state, scheduler, app, pinned_id, kept)


def _has_address(definition: api_pb2.Function) -> bool:
    hooks = [definition.webhook_config, *(method.webhook_config for method in definition.method_definitions.values())]
    return definition.is_server or any(hook.type != api_pb2.WEBHOOK_TYPE_UNSPECIFIED for hook in hooks)


def _made(state: State, scheduler: Scheduler, app: App, pinned_id: str, kept: Definition) -> FunctionRecord:
    record = state.functions[pinned_id] = FunctionRecord(pinned_id, app.app_id, kept.tag, version=1)
    record.definition.CopyFrom(kept.definition)
    record.data.CopyFrom(kept.data)
    scheduler.published(record)
    record.overrides.min_containers = 0  # being looked up is no demand
    return record
