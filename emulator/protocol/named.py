"""What is known by a name within an environment (Secrets, Volumes, Dicts, Queues): found or created, listed, removed.

A name may become a folder's, so what is no name goes no further than this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from modal_proto import api_pb2

from emulator.ids import new_id
from emulator.protocol.dispatch import exists, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.protocol.heartbeats import Heartbeats
    from emulator.state import Environment, State

    Request = (
        api_pb2.DictGetOrCreateRequest
        | api_pb2.QueueGetOrCreateRequest
        | api_pb2.SecretGetOrCreateRequest
        | api_pb2.VolumeGetOrCreateRequest
    )

ANONYMOUS = frozenset({api_pb2.OBJECT_CREATION_TYPE_ANONYMOUS_OWNED_BY_APP, api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL})

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ENVIRONMENT = re.compile(r"(?!en-)[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.IGNORECASE)


class Named(Protocol):
    name: str
    """Empty for an anonymous object."""
    environment: str
    created_at: float


T = TypeVar("T", bound=Named)


class NamedObjects(Generic[T]):
    """The objects of one kind, by id in `objects` and by name in their environments.

    With `heartbeats` the ephemeral ones go when their owner has been silent for too long, which is looked at whenever
    an object is asked for. `ended` is told of each object that is gone, whyever.
    """

    def __init__(
        self,
        kind: str,
        prefix: str,
        objects: dict[str, T],
        state: State,
        *,
        heartbeats: Heartbeats | None = None,
        ended: Callable[[T], None] = lambda _: None,
    ) -> None:
        self._kind = kind
        self._prefix = prefix
        self._objects = objects
        self._state = state
        self._heartbeats = heartbeats
        self._ended = ended

    def get_or_create(self, request: Request, make: Callable[[str, str, str], T]) -> T:
        """The object that a request names, made by `make(id, name, environment)` where the request says so."""
        self._sweep()
        kind, name = request.object_creation_type, request.deployment_name
        environment = environment_named(self._state, request.environment_name).name
        if kind in ANONYMOUS:
            return self._create("", environment, make, ephemeral=kind == api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL)
        check_name(self._kind, name)
        found = next((o for o in self._objects.values() if (o.name, o.environment) == (name, environment)), None)
        if found is None:
            if kind == api_pb2.OBJECT_CREATION_TYPE_UNSPECIFIED:
                raise not_found(f"{self._kind} '{name}' not found in environment '{environment}'")
            return self._create(name, environment, make)
        if kind == api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS:
            raise exists(f"{self._kind} '{name}' already exists in environment '{environment}'")
        return found

    def _create(self, name: str, environment: str, make: Callable[[str, str, str], T], *, ephemeral: bool = False) -> T:
        object_id = new_id(self._prefix)
        self._objects[object_id] = made = make(object_id, name, environment)
        if ephemeral and self._heartbeats is not None:
            self._heartbeats.begin(object_id)
        return made

    def listed(self, environment_name: str, pagination: api_pb2.ListPagination) -> tuple[str, list[T]]:
        """The environment's name, and a page of what has a name there, newest first."""
        environment = environment_named(self._state, environment_name).name
        named = [o for o in self._objects.values() if o.name and o.environment == environment]
        if before := pagination.created_before:
            # Whoever pages by what `info` says does so in microseconds.
            named = [o for o in named if round(o.created_at, 6) < round(before, 6)]
        named.sort(key=lambda o: o.created_at, reverse=True)
        return environment, named[: pagination.max_objects or None]

    def get(self, object_id: str) -> T:
        """Raises `GRPCError` (NOT_FOUND)."""
        self._sweep()
        if object_id not in self._objects:
            raise not_found(f"No {self._kind} with ID {object_id}")
        return self._objects[object_id]

    def beat(self, object_id: str) -> None:
        """Its owner is still there. Raises as `get`."""
        self.get(object_id)
        if self._heartbeats is not None:
            self._heartbeats.beat(object_id)

    def remove(self, object_id: str) -> T:
        """Raises as `get`."""
        removed = self.get(object_id)
        self._drop(object_id)
        return removed

    def rename_environment(self, old: str, new: str) -> None:
        """What was in the one environment is in the other."""
        for found in self._objects.values():
            if found.environment == old:
                found.environment = new

    async def remove_environment(self, name: str) -> None:
        """Everything in there is gone."""
        for object_id in [key for key, found in self._objects.items() if found.environment == name]:
            self._drop(object_id)

    def _sweep(self) -> None:
        for object_id in self._heartbeats.lapsed() if self._heartbeats is not None else ():
            self._drop(object_id)

    def _drop(self, object_id: str) -> None:
        found = self._objects.pop(object_id)
        if self._heartbeats is not None:
            self._heartbeats.end(object_id)
        self._ended(found)


def check_name(kind: str, name: str) -> None:
    """Refuse what Modal would not take for an object's name."""
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise invalid(f"Invalid {kind} name {name!r}: 1 to 64 letters, digits, dashes, periods and underscores")


def check_environment_name(name: str) -> None:
    """Refuse what Modal would not take for a new environment's name."""
    if not _ENVIRONMENT.fullmatch(name):
        raise invalid(
            f"Invalid Environment name {name!r}: 1 to 64 letters, digits, dashes and underscores, "
            "a letter or digit first, and not beginning with 'en-'"
        )


def environment_named(state: State, name: str) -> Environment:
    """The environment of that name, the default one for an empty name. NOT_FOUND where there is none."""
    found = next((e for e in state.environments.values() if (e.name == name if name else e.default)), None)
    if found is None:
        raise not_found(f"Environment '{name}' not found")
    return found
