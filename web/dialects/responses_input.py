"""The items of a Responses request as chat messages, which every engine's chat template understands. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, Any]

BETWEEN = "\n"
"""Stands between two parts of text that become one: chat templates want strings, and some take nothing else."""


class Told(NamedTuple):
    """The messages that a model is sent: `introduced` of the caller's own, `remembered` of what came before, the
    rest the caller's own again."""

    messages: list[Json]
    introduced: int
    remembered: int


def conversation(items: Iterable[Json], *, instructions: str | None, history: Iterable[Json] = ()) -> Told:
    """What the assistant thought, said and called in items that follow each other is one message: which is new where
    any of it is."""
    said = _Conversation()
    if instructions:
        said.messages.append({"role": "system", "content": instructions})
    introduced = len(said.messages)
    for item in history:
        said.add(item)
    items = list(items)
    if items and not _is_assistants(items[0]):
        said.pause()
    remembered = len(said.messages) - introduced
    for item in items:
        said.add(item)
    return Told(said.whole(), introduced, remembered)


def fewer(items: Sequence[Json], shown: int) -> int | None:
    """The next try, when a model finds the last `shown` items too long: the newer half, or what is nearest to it, from
    a message of the user's on. None: nothing is left to drop."""
    starts = [n for n in range(1, shown) if items[-n].get("role") == "user"]
    half = [n for n in starts if n <= shown // 2]
    return max(half) if half else min(starts, default=None)


def _is_assistants(item: Json) -> bool:
    return item.get("type") in ("reasoning", "function_call") or item.get("role") == "assistant"


class _Conversation:
    def __init__(self) -> None:
        self.messages: list[Json] = []
        self._turn: Json = {}
        """The assistant's message so far."""
        self._shown: list[Json] = []
        """Images among the results of functions: shown by the user, since nowhere else do engines take images."""

    def add(self, item: Json) -> None:
        kind = item.get("type") or "message"
        if kind != "function_call_output":
            self._show()
        match kind:
            case "reasoning":
                self._think(item)
            case "function_call":
                function = {"name": item["name"], "arguments": item["arguments"]}
                calls = self._turn.setdefault("tool_calls", [])
                calls.append({"id": item["call_id"], "type": "function", "function": function})
            case "function_call_output":
                self._end_turn()
                self._result(item)
            case _ if item["role"] == "assistant":
                if "content" in self._turn or "tool_calls" in self._turn:
                    self._end_turn()
                self._turn["content"] = _joined(item["content"])
            case _:
                self._end_turn()
                role = "system" if item["role"] == "developer" else item["role"]
                self.messages.append({"role": role, "content": _content(item["content"])})

    def pause(self) -> None:
        """What comes next is nothing more of the assistant's message."""
        self._end_turn()

    def whole(self) -> list[Json]:
        self._show()
        self._end_turn()
        return self.messages

    def _think(self, item: Json) -> None:
        if "content" in self._turn or "tool_calls" in self._turn:
            self._end_turn()
        thoughts = [part["text"] for part in item.get("content") or item.get("summary") or []]
        if thoughts:
            self._turn["reasoning_content"] = BETWEEN.join(thoughts)

    def _end_turn(self) -> None:
        turn, self._turn = self._turn, {}
        if "content" in turn or "tool_calls" in turn:
            self.messages.append({"role": "assistant", "content": None} | turn)

    def _result(self, item: Json) -> None:
        output = item["output"]
        if not isinstance(output, str):
            self._shown += [_image(part) for part in output if part["type"] == "input_image"]
        self.messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": _joined(output)})

    def _show(self) -> None:
        if self._shown:
            self.messages.append({"role": "user", "content": self._shown})
            self._shown = []


def _content(content: str | list[Json]) -> str | list[Json]:
    if isinstance(content, str) or all(part["type"] != "input_image" for part in content):
        return _joined(content)
    return [
        _image(part) if part["type"] == "input_image" else {"type": "text", "text": _text(part)} for part in content
    ]


def _joined(content: str | list[Json]) -> str:
    if isinstance(content, str):
        return content
    return BETWEEN.join(_text(part) for part in content if part["type"] != "input_image")


def _text(part: Json) -> str:
    text: str = part["refusal"] if part["type"] == "refusal" else part["text"]
    return text


def _image(part: Json) -> Json:
    shown: Json = {"url": part["image_url"]}
    if part.get("detail") in ("low", "high"):
        shown["detail"] = part["detail"]
    return {"type": "image_url", "image_url": shown}
