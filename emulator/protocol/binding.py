"""Functions made from others: a class with its parameters bound, or anything with other options."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from modal_proto import api_pb2

from emulator.ids import derived_id
from emulator.protocol.definition import check
from emulator.protocol.dispatch import invalid
from emulator.protocol.options import rebind, remark
from emulator.state import FunctionRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State

LARGEST = 16 * 1024
"""Bytes of a class's parameters: https://modal.com/docs/guide/parametrized-functions."""
TRUTH = {"true": True, "1": True, "false": False, "0": False}


class Binder:
    def __init__(self, state: State, scheduler: Scheduler, say: Callable[[str], None]) -> None:
        self._state = state
        self._scheduler = scheduler
        self._say = say

    def bind(
        self, base: FunctionRecord, parameters: bytes, options: api_pb2.FunctionOptions | None = None
    ) -> FunctionRecord:
        """The function that is `base` with these serialized parameters and options: the same for the same bytes.

        Raises `GRPCError` for what Modal refuses.
        """
        if len(parameters) > LARGEST:
            raise invalid(f"The parameters of {base.tag} have {len(parameters)} bytes, and may have {LARGEST}")
        chosen = options or api_pb2.FunctionOptions()
        identity = chosen.SerializeToString(deterministic=True)
        bound_id = derived_id("fu", base.function_id.encode(), parameters, identity)
        bound = self._state.functions.get(bound_id)
        if bound is None:
            bound = FunctionRecord(bound_id, base.app_id, base.tag, base_function_id=base.function_id)
            bound.options.CopyFrom(chosen)
            bound.serialized_params = parameters or base.serialized_params
            rebind(bound, base)
            check(bound.definition)
            self._state.functions[bound_id] = bound
            if line := remark(bound.definition, base.definition):
                self._say(f"{bound.tag} with other options: {line}")
            self._scheduler.published(bound)
        return bound

    def for_request(self, base: FunctionRecord, query: bytes) -> FunctionRecord:
        """The function that a web request to a class is for: its parameters are those of the query of that name.

        As https://modal.com/docs/guide/parametrized-functions has it. Raises ValueError for a query without one that
        has no default, or with one that is not of its type.
        """
        info = base.definition.class_parameter_info
        if not info.schema or info.format != api_pb2.ClassParameterInfo.PARAM_SERIALIZATION_FORMAT_PROTO:
            return base
        return self.bind(base, from_query(info.schema, query))


def from_query(schema: Sequence[api_pb2.ClassParameterSpec], query: bytes) -> bytes:
    """A class's parameters, serialized as the client does it: those given in their order, then the others' defaults."""
    specs = {spec.name: spec for spec in schema}
    given: dict[str, bytes] = {}
    for part in query.split(b"&"):
        key, _, text = part.partition(b"=")
        name = _unquoted(key).decode(errors="replace")
        if name in specs:
            given[name] = _unquoted(text)
    values = api_pb2.ClassParameterSet()
    for name, value in given.items():
        _add(values, specs[name], _parsed(specs[name], value))
    for name, spec in specs.items():
        if name not in given:
            default = spec.WhichOneof("default_oneof")
            if default is None:
                raise ValueError(f"Missing required parameter: {name}")
            _add(values, spec, getattr(spec, default))
    return values.SerializeToString(deterministic=True)


def _unquoted(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _kind(spec: api_pb2.ClassParameterSpec) -> str:
    kind = spec.full_type.base_type or spec.type
    return api_pb2.ParameterType.Name(kind).removeprefix("PARAM_TYPE_")


def _parsed(spec: api_pb2.ClassParameterSpec, value: bytes) -> str | int | bytes | bool:
    try:
        match _kind(spec):
            case "STRING":
                return value.decode()
            case "INT":
                return int(value)
            case "BOOL":
                return TRUTH[value.decode().lower()]
            case "BYTES":
                return value
    except (ValueError, KeyError):
        pass
    raise ValueError(f"Parameter {spec.name} is no {_kind(spec).lower()}")


def _add(values: api_pb2.ClassParameterSet, spec: api_pb2.ClassParameterSpec, value: object) -> None:
    kind = spec.full_type.base_type or spec.type
    added = values.parameters.add(name=spec.name, type=kind)
    setattr(added, f"{_kind(spec).lower()}_value", value)
