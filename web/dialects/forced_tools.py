"""A tool call from an engine that constrains text and not calls: told to write the call as JSON, and read back. Pure.

llama.cpp takes `tool_choice: "required"` and does not enforce it, SGLang 0.5.23 does in part; both enforce a JSON
schema. So the answer is constrained to `{"name": <one of the tools>, "arguments": <as that tool's schema says>}`, the
form in which most chat templates show calls to the model, and what the engine writes becomes the pieces of a call.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from web.dialects.pieces import Piece

if TYPE_CHECKING:
    from collections.abc import Sequence

Json = dict[str, Any]

BEGINNING = re.compile(r'[^{]*\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"arguments"\s*:\s*(?=\S)')
"""Up to the arguments. llama.cpp lets the model open a fenced block first."""


def call_schema(tools: Sequence[Json]) -> Json:
    """The schema of one call of one of `tools` (as in OpenAI's requests)."""
    forms, definitions = [], {}
    for index, tool in enumerate(tools):
        function, label = tool["function"], f"arguments_{index}"
        definitions[label] = _moved(function.get("parameters") or {"type": "object"}, f"#/$defs/{label}")
        forms.append({
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": f"#/$defs/{label}"}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        })  # fmt: skip
    return {"anyOf": forms, "$defs": definitions}


def _moved(schema: Any, root: str) -> Any:
    """The schema, with what refers to its own root referring to `root`."""
    if isinstance(schema, list):
        return [_moved(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: root + value[1:] if name == "$ref" and isinstance(value, str) else _moved(value, root)
        for name, value in schema.items()
    }


class CallReader:
    """A filter of pieces: the constrained text of each choice becomes a tool call, streamed as it comes. Calls that the
    engine itself tells (a parser of its own may know the form) pass."""

    def __init__(self, rid: str) -> None:
        """`rid`: random; the calls' ids are made of it."""
        self._rid = rid
        self._calls: dict[int, _Call] = {}

    def __call__(self, pieces: list[Piece]) -> list[Piece]:
        told: list[Piece] = []
        for piece in pieces:
            call = self._calls.setdefault(piece.choice, _Call())
            if piece.kind == "text":
                self._read(piece.choice, call, piece.value, told)
            elif piece.kind == "finish" and piece.value == "stop" and call.complete:
                told.append(piece._replace(value="tool_calls"))
            else:
                told.append(piece)
        return told

    def _read(self, choice: int, call: _Call, text: str, told: list[Piece]) -> None:
        opened = call.name
        arguments = call.read(text)
        if opened is None and call.name is not None:
            opening = {"index": 0, "id": f"call_{self._rid[:24]}{choice}", "type": "function"}
            told.append(_tool(choice, opening | {"function": {"name": call.name, "arguments": ""}}))
        if arguments:
            told.append(_tool(choice, {"index": 0, "function": {"arguments": arguments}}))


def _tool(choice: int, value: Json) -> Piece:
    return Piece(choice, "tool", value, None)


class _Call:
    """The text of one call so far. `complete`: its arguments have ended."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.complete = False
        self._beginning = ""
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def read(self, text: str) -> str:
        """What of the arguments came with `text`, without the white space between them."""
        if self.name is None:
            self._beginning = (self._beginning + text).lstrip()
            found = BEGINNING.match(self._beginning)
            if found is None:
                return ""
            self.name, text = found[1], self._beginning[found.end() :]
        taken: list[str] = []
        for character in text:
            if not self.complete and self._takes(character):
                taken.append(character)
        return "".join(taken)

    def _takes(self, character: str) -> bool:
        if self._quoted:
            if self._escaped:
                self._escaped = False
            elif character == "\\":
                self._escaped = True
            elif character == '"':
                self._quoted = False
            return True
        if character in " \t\r\n":
            return False
        if character == '"':
            self._quoted = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self.complete = self._depth == 0
        return True


class OneCall:
    """A filter of pieces: of the calls of a choice only the first is told (`parallel_tool_calls: false`)."""

    def __init__(self) -> None:
        self._first: dict[int, int] = {}

    def __call__(self, pieces: list[Piece]) -> list[Piece]:
        return [piece for piece in pieces if piece.kind != "tool" or self._is_first(piece)]

    def _is_first(self, piece: Piece) -> bool:
        index: int = piece.value["index"]
        return self._first.setdefault(piece.choice, index) == index
