"""Objects as JSON and back: plain data, and objects of kinds that whoever asks says how to take apart. Pure.

Readable, and harmless to read: nothing of what is read can have code run, wherever it comes from.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

TAG = "$"
"""Of the dictionaries that stand for what JSON has not."""


class Shapes(Protocol):
    """The kinds of objects that there are, beside plain data."""

    def take(self, value: object) -> tuple[str, object]:
        """A name for its kind, and what it is made of. Raises `TypeError` for what is not kept."""

    def give(self, name: str, content: object) -> object:
        """The object again. Raises `ValueError` for a name that is not known."""


def dumped(value: object, shapes: Shapes) -> bytes:
    """Raises `TypeError` for what is neither plain nor of those shapes."""
    return json.dumps(_plain(value, shapes), ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def loaded(data: bytes, shapes: Shapes) -> object:
    """Raises `ValueError` for what `dumped` has not written."""
    try:
        return _object(json.loads(data.decode(errors="surrogatepass")), shapes)
    except (KeyError, TypeError, IndexError, AttributeError, binascii.Error) as error:
        raise ValueError(f"not a record: {error!r}") from error


def _plain(value: object, shapes: Shapes) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_plain(item, shapes) for item in value]
        case dict() if type(value) is dict and all(isinstance(key, str) and not key.startswith(TAG) for key in value):
            return {key: _plain(item, shapes) for key, item in value.items()}
        case dict():
            pairs = [[_plain(key, shapes), _plain(item, shapes)] for key, item in value.items()]
            return {TAG: "dict", "is": pairs}
        case tuple():
            return {TAG: "tuple", "is": [_plain(item, shapes) for item in value]}
        case frozenset() | set():
            return {TAG: type(value).__name__, "is": sorted((_plain(item, shapes) for item in value), key=str)}
        case bytes() | bytearray():
            return {TAG: "bytes", "is": base64.b64encode(value).decode()}
        case datetime() | date():
            return {TAG: type(value).__name__, "is": value.isoformat()}
        case Decimal():
            return {TAG: "decimal", "is": str(value)}
    name, content = shapes.take(value)
    return {TAG: f"a {name}", "is": _plain(content, shapes)}


def _object(data: object, shapes: Shapes) -> object:
    if isinstance(data, list):
        return [_object(item, shapes) for item in data]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {key: _object(item, shapes) for key, item in data.items()}
    kind, inner = data[TAG], _object(data["is"], shapes)
    match kind, inner:
        case "dict", list():
            return dict(inner)
        case "tuple", list():
            return tuple(inner)
        case "set", list():
            return set(inner)
        case "frozenset", list():
            return frozenset(inner)
        case "bytes", str():
            return base64.b64decode(inner, validate=True)
        case "datetime", str():
            return datetime.fromisoformat(inner)
        case "date", str():
            return date.fromisoformat(inner)
        case "decimal", str():
            return Decimal(inner)
    if not kind.startswith("a "):
        raise ValueError(f"a record of an unknown kind: {kind!r}")
    return shapes.give(kind.removeprefix("a "), inner)
