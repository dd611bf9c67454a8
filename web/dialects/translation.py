"""From the bytes that an engine streams to what its caller gets: bytes of a stream, or one whole answer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import orjson

from web.dialects.pieces import EngineStream, Piece
from web.dialects.sse import EventReader, payload_of
from web.errors import EngineBroken, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.engines import PieceFilter
    from web.dialects.pieces import Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

TEXT_KEYS = (b'"content":', b'"content": ', b'"text":', b'"text": ')


class Around(NamedTuple):
    """What stands around the text of events that differ in nothing else, from `data:` on, and their choice. The text's
    quotes are part of it."""

    before: bytes
    after: bytes
    choice: int

    def texts(self, events: list[bytes], position: int) -> list[bytes]:
        """Of as many events from `position` on as are like this and hold no quote: their texts."""
        before, after, _ = self
        start, end = len(before), -len(after)
        shortest = start - end
        texts: list[bytes] = []
        for event in events[position:] if position else events:
            if not (event.startswith(before) and event.endswith(after) and len(event) >= shortest):
                break
            if b'"' in (text := event[start:end]):
                break
            texts.append(text)
        return texts


class Translation:
    """What both have in common. `failure`: the engine's error, which comes behind whatever was returned before it.

    The events of an answer's tokens differ in nothing but their text. So once one was understood, of those that are
    byte for byte the same around their text nothing but the text is parsed.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._alike: Around | None = None
        """Around the text of the last event that was understood to be nothing but text."""
        self._events = EventReader()
        self._engine = EngineStream(kind=request.kind, choices=request.choices, prompt=request.prompt_name)
        self.failure: ServiceError | None = None
        self.filter: PieceFilter | None = None
        """What pieces pass before the caller's dialect sees them, where this engine needs that for this request."""
        self.heard = 0
        """How many pieces of text there were."""
        self.done = False
        """Whether the engine has said all of it."""

    @property
    def usage(self) -> Usage | None:
        """As far as the engine has told it."""
        return self._engine.usage

    def _read(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        try:
            events = self._events.split(data)
            position = 0
            while position < len(events):
                alike = self._alike
                # An engine that is quick sends dozens in a packet.
                if alike is not None and (texts := alike.texts(events, position)):
                    pieces += self._pieces(texts, alike.choice)
                    position += len(texts)
                    continue
                event = events[position]
                position += 1
                if (payload := payload_of(event)) is not None:
                    pieces += self._understand(event, payload)
        except ServiceError as error:
            self.failure = error
        self.done = self._engine.done
        if self.filter is not None:
            pieces = self.filter(pieces)
        for piece in pieces:
            self.heard += piece.kind != "finish"
        return pieces

    def _pieces(self, texts: list[bytes], choice: int) -> Iterable[Piece]:
        """Of events that came together, by their texts (JSON strings without their quotes). Raises EngineBroken, once
        it has given those before the one that is none."""
        return (Piece(choice, "text", string(text), None) for text in texts)

    def _understand(self, event: bytes, payload: bytes) -> list[Piece]:
        pieces = self._engine.read(payload)
        if len(pieces) == 1 and (found := around_text(event, pieces[0])) is not None:
            self._alike = Around(*found, pieces[0].choice)
        return pieces


class WholeAnswer(Translation):
    def __init__(self, request: GenerationRequest, client: AnswerBuilder) -> None:
        super().__init__(request)
        self._client = client

    def feed(self, data: bytes) -> None:
        """Take in bytes of the engine's stream."""
        self._client.add(self._read(data))

    def body(self) -> bytes:
        """The answer, once it is done."""
        return self._client.body(self._engine.usage)

    def _pieces(self, texts: list[bytes], choice: int) -> Iterable[Piece]:
        """One of all of them: they are put together in any case."""
        text = b"".join(texts)
        # A filter may want to see what the engine said, as it said it; and an escape must end in its own event.
        if self.filter is not None or b"\\" in text:
            return super()._pieces(texts, choice)
        piece = Piece(choice, "text", string(text), None)
        self.heard += len(texts) - 1
        return [piece]


class StreamedAnswer(Translation):
    """What is alike around its text and comes by itself is relayed by exchanging what is around it: not even the text
    is parsed."""

    def __init__(self, request: GenerationRequest, client: StreamRenderer) -> None:
        super().__init__(request)
        self._client = client
        self._known: Around | None = None
        """Around the text of an event, its end included, that `_render` or `_rendered` can replace."""
        self._between = b""
        self._render: Callable[[bytes], bytes] | None = None
        self._rendered = b"", b"", b""
        """Before a text, after it, and between two."""

    def feed(self, data: bytes) -> bytes:
        """The caller's bytes for these of the engine; empty where they hold nothing for the caller."""
        known = self._known
        if known is not None and data.startswith(known.before) and data.endswith(known.after) and self._events.empty:
            text = data[len(known.before) : len(data) - len(known.after)]
            if b'"' not in text and len(data) >= len(known.before) + len(known.after):
                self.heard += 1
                if self._render is not None:
                    return self._render(b'"%b"' % text)
                return self._rendered[0] + text + self._rendered[1]
            texts = text.split(self._between)
            if len(texts) > 1 and b'"' not in b"".join(texts):
                return self._several(texts)
        whole = self._events.empty
        pieces = self._read(data)
        if any(piece.kind != "text" for piece in pieces):
            self._known = None
        elif whole and len(pieces) == 1 and self._events.empty:
            self._learn(data, pieces[0])
        return self._client.pieces(pieces)

    def end(self) -> bytes:
        """The last bytes, once it is done."""
        return self._client.end(self._engine.usage)

    def error(self, error: WireError) -> bytes:
        """The last bytes, once it has failed."""
        return self._client.error(error)

    def _several(self, texts: list[bytes]) -> bytes:
        """Events that came together, and differ in nothing but these texts."""
        self.heard += len(texts)
        if self._render is not None:
            return b"".join([self._render(b'"%b"' % text) for text in texts])
        before, after, between = self._rendered
        return before + between.join(texts) + after

    def _learn(self, data: bytes, piece: Piece) -> None:
        """Remember what is around the text of an event that is one piece of text and nothing else."""
        if data.count(b"\n\n") != 1 or (found := around_text(data, piece)) is None:
            return
        if (around := self._client.around(piece.choice)) is not None:
            self._known = Around(*found, piece.choice)
            self._between = found[1] + found[0]
            if isinstance(around, tuple):
                before, after = around[0] + b'"', b'"' + around[1]
                self._rendered = before, after, after + before
            else:
                self._render = around


def around_text(event: bytes, piece: Piece) -> tuple[bytes, bytes] | None:
    """What stands before and after the text, its quotes included, of an event that is one piece of text and nothing
    else."""
    if piece.kind != "text" or piece.logprobs is not None:
        return None
    before, found, after = event.partition(orjson.dumps(piece.value))
    return (before + b'"', b'"' + after) if found and after and before.endswith(TEXT_KEYS) else None


def string(text: bytes) -> str:
    """The value of a JSON string, which is given without its quotes. Raises EngineBroken."""
    try:
        value: str = orjson.loads(b'"%b"' % text)
    except orjson.JSONDecodeError:
        raise EngineBroken("The engine sent an event that is not one.", code="engine_protocol") from None
    return value
