"""How the emulator's own records are kept: its dataclasses field by field, protobuf messages as their bytes. Pure."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError, Message
from modal_proto import api_pb2

import emulator.state as state_module

if TYPE_CHECKING:
    from collections.abc import Iterable


class StateShapes:
    """Dataclasses of `emulator.state`, Modal's messages, and paths below `folder`, which may be elsewhere next time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, value: object) -> tuple[str, object]:
        if isinstance(value, Message):
            return f"message {value.DESCRIPTOR.name}", value.SerializeToString(deterministic=True)
        if isinstance(value, Path):
            if not value.is_relative_to(self._folder):
                raise TypeError(f"{value} is not below {self._folder}")
            return "path", str(value.relative_to(self._folder))
        if is_dataclass(value) and getattr(state_module, type(value).__name__, None) is type(value):
            return type(value).__name__, {name: getattr(value, name) for name in kept_fields(value)}
        raise TypeError(f"a {type(value).__name__} can not be kept")

    def give(self, name: str, content: object) -> object:
        if name == "path":
            return self._folder / str(content)
        if name.startswith("message "):
            return _message(name.removeprefix("message "), content)
        kind = getattr(state_module, name, None)
        if not isinstance(kind, type) or not is_dataclass(kind) or not isinstance(content, dict):
            raise ValueError(f"an unknown kind of record: {name!r}")
        if unknown := content.keys() - set(kept_fields(kind)):
            raise ValueError(f"fields of a {name} that are not known: {', '.join(sorted(unknown))}")
        try:
            return kind(**content)
        except TypeError as error:
            raise ValueError(f"an incomplete {name}: {error}") from error


def kept_fields(kind: object) -> Iterable[str]:
    """Names of a dataclass's fields that are kept."""
    return [field.name for field in fields(kind) if field.metadata.get("kept", True)]  # type: ignore[arg-type]


def _message(name: str, content: object) -> Message:
    kind = getattr(api_pb2, name, None)
    if kind is None or not isinstance(content, bytes):
        raise ValueError(f"a message of a kind that the installed modal does not know: {name!r}")
    try:
        made: Message = kind.FromString(content)
    except DecodeError as error:
        raise ValueError(f"a damaged {name}: {error}") from error
    return made
