"""A JSON Schema without references: for an engine that puts it into another, where they would point elsewhere. Pure."""

from __future__ import annotations

from typing import Any

DEFINITIONS = ("$defs", "definitions")
MOST_NODES = 10_000
"""What a schema may grow to. References can make one exponentially larger."""


class _CannotBe(Exception):
    """It refers to itself, or would grow too large."""


def inlined(schema: Any) -> Any:
    """The same schema with what it refers to in place of each reference; as it is, where that cannot be.

    The schema is one that `check_schema` takes: references are local and lead somewhere.
    """
    try:
        return _Inlining(schema).of(schema, ())
    except (_CannotBe, RecursionError):  # the latter: a chain of references as long as a book
        return schema


class _Inlining:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._nodes = 0

    def of(self, here: Any, inside: tuple[str, ...]) -> Any:
        """`inside`: the references that are being resolved."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _CannotBe
        if isinstance(here, list):
            return [self.of(item, inside) for item in here]
        if not isinstance(here, dict):
            return here
        reference = here.get("$ref")
        left = ("$ref", *DEFINITIONS) if here is self._root else ("$ref",)
        beside = {name: self.of(value, inside) for name, value in here.items() if name not in left}
        if not isinstance(reference, str):
            return beside if reference is None else beside | {"$ref": self.of(reference, inside)}
        if reference in inside:
            raise _CannotBe
        target = self.of(self._target(reference), (*inside, reference))
        return {**target, **beside} if isinstance(target, dict) else target

    def _target(self, reference: str) -> Any:
        here = self._root
        for escaped in reference.split("/")[1:]:
            step = escaped.replace("~1", "/").replace("~0", "~")
            try:
                here = here[int(step)] if isinstance(here, list) else here[step]
            except (KeyError, IndexError, TypeError, ValueError):
                raise _CannotBe from None
        return here
