"""What answers must not hold: an answer in which it is found ends before it, with the reason `content_filter`. Pure.

A guard stands between an engine's pieces and the caller's dialect, streamed or whole, and only where one is configured:
without one, nothing of this costs anything. It sees the text and the reasoning of each choice; what tools are called
with is not looked into.
"""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, Protocol

from web.dialects.pieces import Piece
from web.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from infra.settings import Guards
    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.pieces import Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError


class AnswerFilter(Protocol):
    """One answer under watch, fed in order."""

    def feed(self, pieces: Iterable[Piece]) -> list[Piece]:
        """What of these pieces, and of those held back before, the caller may have now. A choice that has to end gets
        a finish of `content_filter`, and nothing behind it."""

    @property
    def over(self) -> bool:
        """Whether every choice has ended, at least one of them by this filter: the engine need not go on."""


class AnswerGuard(Protocol):
    def watch(self, request: GenerationRequest) -> AnswerFilter:
        """A filter for the answer to this request."""


class AnswerCut(ServiceError):
    """The guard has ended an answer before the engine did: what the caller has got is a complete answer."""

    def __init__(self) -> None:
        super().__init__("The answer was ended by a content filter.")


class PatternGuard:
    """Ends answers at the first match of any of the configured expressions."""

    def __init__(self, guards: Guards) -> None:
        self._expressions = [re.compile(expression) for expression in guards.blocked_answers]
        self._held = guards.held_back_characters

    def watch(self, request: GenerationRequest) -> PatternFilter:
        return PatternFilter(self._expressions, held=self._held, choices=request.choices)


class PatternFilter:
    """See `AnswerFilter`. A match of at most `held` characters is found before any of it was given out, wherever the
    pieces of the stream end; a longer one once it is found, up to `held` characters late."""

    def __init__(self, expressions: Sequence[re.Pattern[str]], *, held: int, choices: int) -> None:
        self._expressions = expressions
        self._held = held
        self._choices = choices
        self._tails: dict[tuple[int, str], _Tail] = {}
        self._cut: set[int] = set()
        self._ended: set[int] = set()

    @property
    def over(self) -> bool:
        return bool(self._cut) and len(self._ended) >= self._choices

    def feed(self, pieces: Iterable[Piece]) -> list[Piece]:
        given: list[Piece] = []
        for piece in pieces:
            if piece.choice in self._ended:
                continue
            if piece.kind in ("text", "reasoning"):
                given += self._speak(piece)
            else:
                given += self._let_go(piece)
        return given

    def _speak(self, piece: Piece) -> list[Piece]:
        """A piece of text: whatever may not become part of a match any more."""
        key = (piece.choice, piece.kind)
        tail = self._tails.get(key)
        if tail is None:
            tail = self._tails[key] = _Tail(self._expressions, self._held)
        given, found = tail.add(piece)
        return [*given, self._end(piece.choice)] if found else given

    def _let_go(self, piece: Piece) -> list[Piece]:
        """A piece that is no text, before which all that was held back has to be told."""
        given: list[Piece] = []
        for (choice, _), tail in self._tails.items():
            if choice == piece.choice:
                more, found = tail.flush()
                given += more
                if found:
                    return [*given, self._end(choice)]
        if piece.kind == "finish":
            self._ended.add(piece.choice)
        return [*given, piece]

    def _end(self, choice: int) -> Piece:
        self._cut.add(choice)
        self._ended.add(choice)
        return Piece(choice, "finish", "content_filter", None)


class _Tail:
    """The end of one text: the pieces that are held back, and before them as much of what was given out."""

    def __init__(self, expressions: Sequence[re.Pattern[str]], held: int) -> None:
        self._expressions = expressions
        self._most = held
        self._waiting: deque[Piece] = deque()
        self._given = ""
        self._held = ""

    def add(self, piece: Piece) -> tuple[list[Piece], bool]:
        """What may be given out now, and whether the text has to end there."""
        self._waiting.append(piece)
        self._held += piece.value
        start = self._match(final=False)
        if start is not None:
            return self._up_to(start), True
        given = []
        while self._waiting and len(self._held) - len(self._waiting[0].value) >= self._most:
            given.append(self._give())
        return given, False

    def flush(self) -> tuple[list[Piece], bool]:
        """The same, when no more text comes for now."""
        start = self._match(final=True)
        if start is not None:
            return self._up_to(start), True
        return [self._give() for _ in range(len(self._waiting))], False

    def _give(self) -> Piece:
        piece = self._waiting.popleft()
        size = len(piece.value)
        # One character more than can matter, so that no `^` or `\b` sees a beginning where there is none.
        self._given = (self._given + piece.value)[-self._most - 1 :]
        self._held = self._held[size:]
        return piece

    def _match(self, *, final: bool) -> int | None:
        """Where in what is held back a match begins (0 if before it). One that touches the end of the text is not
        certain yet: it may end otherwise, or be none, with what comes; it is waited for while it can be held back."""
        before = self._given
        text = before + self._held
        skipped = 1 if len(before) > self._most else 0
        starts = []
        for expression in self._expressions:
            found = expression.search(text, skipped)
            if found is None:
                continue
            start = max(0, found.start() - len(before))
            if final or found.end() < len(text) or len(self._held) - start > self._most:
                starts.append(start)
        return min(starts, default=None)

    def _up_to(self, start: int) -> list[Piece]:
        """Give out what is held back before `start`: of the piece in which that lies, its text alone."""
        given = []
        while self._waiting and len(self._waiting[0].value) <= start:
            piece = self._give()
            start -= len(piece.value)
            given.append(piece)
        if start > 0:
            piece = self._waiting[0]
            given.append(Piece(piece.choice, piece.kind, piece.value[:start], None))
        self._waiting.clear()
        return given


class GuardedStream:
    """A `StreamRenderer` behind a filter. When the filter has ended the answer, `pieces` raises AnswerCut, and `error`
    tells the caller, in place of an error, the end of a complete answer."""

    def __init__(self, inner: StreamRenderer, watched: AnswerFilter) -> None:
        self._inner = inner
        self._filter = watched
        self._untold = b""
        self._over = False

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        told = self._inner.pieces(self._filter.feed(pieces))
        if self._filter.over:
            self._untold, self._over = told, True
            raise AnswerCut
        return told

    def around(self, choice: int) -> None:  # noqa: ARG002 - every piece is looked at
        return None

    def end(self, usage: Usage | None) -> bytes:
        return self._inner.end(usage)

    def error(self, error: WireError) -> bytes:
        return self.cut() if self._over else self._inner.error(error)

    def cut(self) -> bytes:
        """The last bytes of the answer that the filter has ended."""
        return self._untold + self._inner.end(None)


class GuardedAnswer:
    """An `AnswerBuilder` behind a filter. When that has ended the answer, `add` raises AnswerCut, and the body is
    complete."""

    def __init__(self, inner: AnswerBuilder, watched: AnswerFilter) -> None:
        self._inner = inner
        self._filter = watched

    def add(self, pieces: Iterable[Piece]) -> None:
        self._inner.add(self._filter.feed(pieces))
        if self._filter.over:
            raise AnswerCut

    def body(self, usage: Usage | None) -> bytes:
        return self._inner.body(usage)
