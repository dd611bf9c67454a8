"""What is heard of an answer while it is told to its caller: for a session, which keeps it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from web.dialects.base import AnswerBuilder, Dialect, StreamRenderer
    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError


class Overheard:
    """`complete`: the engine has said all of it. `failed`: the caller is told an error."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def add(self, pieces: Iterable[Piece]) -> None:
        self._texts += [piece.value for piece in pieces if piece.kind == "text"]

    def end(self, usage: Usage | None) -> None:
        self.usage = usage
        self.complete = True


class ListeningRenderer:
    """A renderer that tells an `Overheard` what it is given."""

    def __init__(self, heard: Overheard, renderer: StreamRenderer) -> None:
        self._heard = heard
        self._renderer = renderer

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        pieces = list(pieces)
        self._heard.add(pieces)
        return self._renderer.pieces(pieces)

    def around(self, choice: int) -> None:  # noqa: ARG002
        """Every piece is to be heard."""
        return

    def end(self, usage: Usage | None) -> bytes:
        self._heard.end(usage)
        return self._renderer.end(usage)

    def error(self, error: WireError) -> bytes:
        self._heard.failed = True
        return self._renderer.error(error)


class ListeningDialect:
    """A dialect whose streams are overheard."""

    def __init__(self, heard: Overheard, dialect: Dialect) -> None:
        self._heard = heard
        self._dialect = dialect

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> StreamRenderer:
        return ListeningRenderer(self._heard, self._dialect.stream(request, rid=rid, created=created))

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> AnswerBuilder:
        raise NotImplementedError("the turns of a session are streamed")
