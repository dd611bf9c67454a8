"""The items of a Responses answer, made of an engine's pieces, and the events that tell how they come to be. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from web.errors import EngineBroken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from web.dialects.pieces import Piece

Json = dict[str, Any]


class Events:
    """Numbers events and keeps their bytes until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._next = 0

    def tell(self, kind: str, told: Json) -> None:
        event = {"type": kind, "sequence_number": self._next} | told
        self._next += 1
        self._parts.append(b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps(event)))

    def tell_delta(self, before: bytes, text: str, after: bytes) -> None:
        """An event of which all but its text and its number is known: most of them are that."""
        self._parts.append(b'%s%d,"delta":%s%s' % (before, self._next, orjson.dumps(text), after))
        self._next += 1

    def relayed(self, before: bytes, text: bytes, after: bytes) -> bytes:
        """Such an event, of a text that is a JSON string: untaken, as there is nothing before it."""
        number = self._next
        self._next = number + 1
        return b'%s%d,"delta":%s%s' % (before, number, text, after)

    def take(self) -> bytes:
        told, self._parts = b"".join(self._parts), []
        return told


class Items:
    """The output so far: a list of items, of which the last one is open until a piece of another kind comes.

    `events`: told of all that happens; None for an answer that is told whole.
    """

    def __init__(self, rid: str, events: Events | None) -> None:
        self._rid = rid
        self._events = events
        self._open: _Item | None = None
        self.done: list[Json] = []
        self.finish: str | None = None
        """Why the engine ended, once it has."""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Raises EngineBroken for what no engine may mix."""
        for piece in pieces:
            kind = piece.kind
            if kind == "finish":
                if not self.done and self._open is None:
                    self._begin("text", {})
                self.finish = piece.value
                self.close()
            elif kind == "tool":
                self._call(piece.value)
            elif piece.value or piece.logprobs:
                if self._open is None or self._open.kind != kind:
                    self._begin(kind, {})
                if self._open is not None:
                    self._open.say(piece.value, piece.logprobs)

    def close(self) -> None:
        """No more comes of the item that is open."""
        if self._open is not None:
            self.done.append(self._open.end(complete=self.finish is None or self.finish in ("stop", "tool_calls")))
            self._open = None

    def around_text(self) -> Callable[[bytes], bytes] | None:
        """What makes an event of a text (a JSON string) that goes into the message that is open, if one is."""
        return self._open.relay if self._open is not None and self._open.kind == "text" else None

    def so_far(self) -> list[Json]:
        """All items, the open one as far as it came."""
        return self.done if self._open is None else [*self.done, self._open.whole("incomplete")]

    def _call(self, call: Json) -> None:
        if "id" in call:
            self._begin("tool", call)
        elif self._open is None or self._open.call.get("index") != call["index"]:
            raise EngineBroken("The engine mixed two calls of tools.", code="engine_protocol")
        else:
            self._open.say(call["function"]["arguments"], None)

    def _begin(self, kind: str, call: Json) -> None:
        self.close()
        self._open = _Item(kind, call, rid=self._rid, index=len(self.done), events=self._events)


PREFIXES = {"text": "msg", "reasoning": "rs", "tool": "fc"}
STREAMED = {
    "text": "response.output_text", "reasoning": "response.reasoning_text", "tool": "response.function_call_arguments",
}  # fmt: skip


class _Item:
    """One item that is under way: a message, a reasoning or a function call, each of one part."""

    def __init__(self, kind: str, call: Json, *, rid: str, index: int, events: Events | None) -> None:
        self.kind = kind
        self.call = call
        self._id = f"{PREFIXES[kind]}_{rid}_{index}"
        self._said: list[str | bytes] = []
        self._logprobs: list[Json] = []
        self._events = events
        where: Json = {"item_id": self._id, "output_index": index}
        self._where = where if kind == "tool" else where | {"content_index": 0}
        if events is not None:
            begun = self.whole("in_progress") if kind == "tool" else self.whole("in_progress") | {"content": []}
            events.tell("response.output_item.added", {"output_index": index, "item": begun})
            if kind != "tool":
                events.tell("response.content_part.added", self._where | {"part": self._part()})
            self._before, self._after = self._template()

    def say(self, text: str, logprobs: Json | None) -> None:
        self._said.append(text)
        entries = [_entry(entry) for entry in (logprobs or {}).get("content") or ()]
        self._logprobs += entries
        if self._events is None:
            return
        if entries:
            told = self._where | {"delta": text, "logprobs": entries}
            self._events.tell(STREAMED[self.kind] + ".delta", told)
        else:
            self._events.tell_delta(self._before, text, self._after)

    def relay(self, text: bytes) -> bytes:
        """The event of a text that comes as a JSON string."""
        assert self._events is not None
        self._said.append(text)
        return self._events.relayed(self._before, text, self._after)

    def end(self, *, complete: bool) -> Json:
        """The item, which nothing is added to any more."""
        item = self.whole("completed" if complete else "incomplete")
        events = self._events
        if events is not None:
            said = self._all()
            if self.kind == "tool":
                told: Json = {"arguments": said, "name": item["name"]}
            else:
                told = {"text": said, "logprobs": self._logprobs} if self.kind == "text" else {"text": said}
            events.tell(STREAMED[self.kind] + ".done", self._where | told)
            if self.kind != "tool":
                events.tell("response.content_part.done", self._where | {"part": self._part()})
            events.tell("response.output_item.done", {"output_index": self._where["output_index"], "item": item})
        return item

    def whole(self, status: str) -> Json:
        """The item as far as it came."""
        match self.kind:
            case "tool":
                return {
                    "id": self._id, "type": "function_call", "status": status, "arguments": self._all(),
                    "call_id": self.call["id"], "name": self.call["function"]["name"],
                }  # fmt: skip
            case "reasoning":
                return {
                    "id": self._id, "type": "reasoning", "status": status, "summary": [], "content": [self._part()],
                }  # fmt: skip
        return {
            "id": self._id, "type": "message", "status": status, "role": "assistant", "content": [self._part()],
        }  # fmt: skip

    def _all(self) -> str:
        said = "".join([text if isinstance(text, str) else _decoded(text) for text in self._said])
        self._said = [said]
        return said

    def _part(self) -> Json:
        said = self._all()
        if self.kind == "reasoning":
            return {"type": "reasoning_text", "text": said}
        return {"type": "output_text", "text": said, "annotations": [], "logprobs": self._logprobs}

    def _template(self) -> tuple[bytes, bytes]:
        """What stands before the number of a delta's event, and behind its text."""
        kind = STREAMED[self.kind] + ".delta"
        told = {"type": kind} | self._where
        more = b',"logprobs":[]' if self.kind == "text" else b""
        head = b"event: %s\ndata: %s" % (kind.encode(), orjson.dumps(told)[:-1])
        return head + b',"sequence_number":', more + b"}\n\n"


def _decoded(text: bytes) -> str:
    """A JSON string's text. One that is none went to the caller as it came, and comes again as it is."""
    try:
        decoded: str = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text[1:-1].decode(errors="replace")
    return decoded


def _entry(entry: Json) -> Json:
    """A token's log probability, from chat completions' shape to that of Responses, where `bytes` is never null."""
    top = [_token(other) for other in entry.get("top_logprobs") or ()]
    return _token(entry) | {"top_logprobs": top}


def _token(entry: Json) -> Json:
    token: str = entry["token"]
    told = entry.get("bytes")
    return {"token": token, "logprob": entry["logprob"], "bytes": list(token.encode()) if told is None else told}
