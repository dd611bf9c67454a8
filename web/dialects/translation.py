"""From the bytes that an engine streams to what its caller gets: bytes of a stream, or one whole answer. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from web.dialects.pieces import EngineStream, Piece
from web.dialects.sse import EventReader
from web.errors import EngineBroken, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.engines import PieceFilter
    from web.dialects.pieces import Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError

QUOTE = 34
TEXT_KEYS = (b'"content":', b'"content": ', b'"text":', b'"text": ')


class Translation:
    """What both have in common. `failure`: the engine's error, which comes behind whatever was returned before it.

    The events of an answer's tokens differ in nothing but their text. So once one was understood, of those that are
    byte for byte the same around their text nothing but the text is parsed.
    """

    def __init__(self, request: GenerationRequest) -> None:
        self._alike = (b"", b"", 0)
        """What stands before and after the text of an event that was understood, and its choice."""
        self._events = EventReader()
        self._engine = EngineStream(kind=request.kind, choices=request.choices, prompt=request.prompt_name)
        self.failure: ServiceError | None = None
        self.filter: PieceFilter | None = None
        """What pieces pass before the caller's dialect sees them, where this engine needs that for this request."""
        self.heard = 0
        """How many pieces of text there were."""

    @property
    def usage(self) -> Usage | None:
        """As far as the engine has told it."""
        return self._engine.usage

    @property
    def done(self) -> bool:
        """Whether the engine has said all of it."""
        return self._engine.done

    def _read(self, data: bytes) -> list[Piece]:
        pieces: list[Piece] = []
        before, after, choice = self._alike
        try:
            for payload in self._events.feed(data):
                # Inline: an engine that is quick sends dozens in a packet.
                if before and payload.startswith(before) and payload.endswith(after):
                    text = payload[len(before) : -len(after)]
                    if text.count(b'"') == 2 and text[0] == text[-1] == QUOTE:
                        pieces.append(Piece(choice, "text", string(text), None))
                        continue
                pieces += self._understand(payload)
                before, after, choice = self._alike
        except ServiceError as error:
            self.failure = error
        if self.filter is not None:
            pieces = self.filter(pieces)
        for piece in pieces:
            self.heard += piece.kind != "finish"
        return pieces

    def _understand(self, payload: bytes) -> list[Piece]:
        pieces = self._engine.read(payload)
        if len(pieces) == 1 and (around := around_text(payload, pieces[0])) is not None:
            self._alike = (*around, pieces[0].choice)
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


class StreamedAnswer(Translation):
    """What is alike around its text and comes alone is relayed by exchanging what is around it: not even the text is
    parsed."""

    def __init__(self, request: GenerationRequest, client: StreamRenderer) -> None:
        super().__init__(request)
        self._client = client
        self._before: bytes | None = None
        self._render: Callable[[bytes], bytes] | None = None
        self._after = self._rendered_before = self._rendered_after = b""

    def feed(self, data: bytes) -> bytes:
        """The caller's bytes for these of the engine; empty where they hold nothing for the caller."""
        before = self._before
        if before is not None and data.startswith(before) and data.endswith(self._after) and self._events.empty:
            text = data[len(before) : -len(self._after)]
            if text.count(b'"') == 2 and text[0] == text[-1] == QUOTE:  # one JSON string, with no quote in it
                self.heard += 1
                if self._render is not None:
                    return self._render(text)
                return self._rendered_before + text + self._rendered_after
        whole = self._events.empty
        pieces = self._read(data)
        if any(piece.kind != "text" for piece in pieces):
            self._before = None
        elif whole and len(pieces) == 1 and self._events.empty:
            self._learn(data, pieces[0])
        return self._client.pieces(pieces)

    def end(self) -> bytes:
        """The last bytes, once it is done."""
        return self._client.end(self._engine.usage)

    def error(self, error: WireError) -> bytes:
        """The last bytes, once it has failed."""
        return self._client.error(error)

    def _learn(self, data: bytes, piece: Piece) -> None:
        """Remember what is around the text of an event that is one piece of text and nothing else."""
        if data.count(b"\n\n") != 1 or (found := around_text(data, piece)) is None:
            return
        if (around := self._client.around(piece.choice)) is not None:
            self._before, self._after = found
            if isinstance(around, tuple):
                self._rendered_before, self._rendered_after = around
            else:
                self._render = around


def around_text(event: bytes, piece: Piece) -> tuple[bytes, bytes] | None:
    """What stands before and after the text of an event that is one piece of text and nothing else."""
    if piece.kind != "text" or piece.logprobs is not None:
        return None
    before, found, after = event.partition(orjson.dumps(piece.value))
    return (before, after) if found and after and before.endswith(TEXT_KEYS) else None


def string(text: bytes) -> str:
    """A JSON string's value. Raises EngineBroken."""
    try:
        value: str = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise EngineBroken("The engine sent an event that is not one.", code="engine_protocol") from None
    return value
