"""The client's objects (`app`, functions, volumes…), which a module of the test process shares with its containers.

What a container's client makes of them (ids, its connection, metadata) is the container's alone: in a container, what
is written to an object that others have too goes to a layer of that container's, which covers the object's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from emulator.containers.thread.identity import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.identity import Identity
    from emulator.containers.thread.patching import Patches

_LAYERS = "layers"
_HYDRATED = "_Object__is_hydrated"
_MADE_BY = "_made_by_container"


def separate_objects(patches: Patches) -> None:
    from modal._object import _Object
    from modal.app import _App

    for kind in (_Object, _App):
        patches.put(kind, "__getattribute__", _read)
        patches.put(kind, "__setattr__", _write)
    hydrated: WeakSet[Any] = WeakSet()
    patches.wrap(_Object, "_hydrate", lambda original: _noting(original, hydrated))
    patches.later(lambda: _unhydrate(hydrated))


def _noting(original: Callable[..., None], hydrated: WeakSet[Any]) -> Callable[..., None]:
    def hydrate(self: Any, *args: Any) -> None:
        original(self, *args)
        if current() is None:
            hydrated.add(self)

    return hydrate


def _unhydrate(hydrated: WeakSet[Any]) -> None:
    """What the test process itself has hydrated has ids of an emulator that is gone."""
    for one in list(hydrated):
        one._unhydrate()


def _layer(identity: Identity, shared: object, *, make: bool = False) -> dict[str, Any] | None:
    layers: dict[int, tuple[object, dict[str, Any]]] = identity.own.setdefault(_LAYERS, {})
    found = layers.get(id(shared))
    if found is None and make:
        found = layers[id(shared)] = (shared, {})  # which keeps the object, and so its id
    return None if found is None else found[1]


def _read(self: object, name: str) -> Any:
    identity = current()
    if identity is not None and (layer := _layer(identity, self)) is not None and name in layer:
        return layer[name]
    value = object.__getattribute__(self, name)
    if identity is not None and name == "_client" and value is not None:
        # Whoever else has hydrated it: what a container asks, it asks itself.
        return identity.own.get("client", value)
    if name == _HYDRATED and value and identity is None:
        # By a client that was closed, of an emulator that may be gone: it is to be loaded anew.
        client = object.__getattribute__(self, "_client")
        return client is None or not client._closed
    return value


def _write(self: object, name: str, value: Any) -> None:
    identity = current()
    if identity is None or _is_property(type(self), name):
        object.__setattr__(self, name, value)
        return
    attributes: dict[str, Any] = object.__getattribute__(self, "__dict__")
    if not attributes:
        attributes[_MADE_BY] = identity.task_id
    if attributes.get(_MADE_BY) == identity.task_id:
        object.__setattr__(self, name, value)
        return
    layer = _layer(identity, self, make=True)
    assert layer is not None
    layer[name] = value


def _is_property(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), property)
