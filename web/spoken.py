"""Prompts and answers in the log: only where `observability.log_prompts` asks for them."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from web.dialects.overheard import ListeningRenderer, Overheard
from web.guards import prompt_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from web.dialects.base import AnswerBuilder, StreamRenderer
    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest

log = logging.getLogger(__name__)


class Spoken:
    """What is said to a model in one request, and by it."""

    def __init__(self) -> None:
        self._heard = Overheard()

    def stream(self, renderer: StreamRenderer) -> StreamRenderer:
        """The renderer, overheard."""
        return ListeningRenderer(self._heard, renderer)

    def answer(self, builder: AnswerBuilder) -> AnswerBuilder:
        """Likewise."""
        return _ListeningBuilder(self._heard, builder)

    @contextlib.contextmanager
    def telling(self, request: GenerationRequest) -> Iterator[None]:
        """Log the texts of the prompt now, and at the end the answer as far as it came."""
        log.info("a prompt", extra={"prompt": prompt_of(request)})
        try:
            yield
        finally:
            log.info("an answer", extra={"answer": self._heard.text, "complete": self._heard.complete})


class _ListeningBuilder:
    def __init__(self, heard: Overheard, builder: AnswerBuilder) -> None:
        self._heard = heard
        self._builder = builder

    def add(self, pieces: Iterable[Piece]) -> None:
        pieces = list(pieces)
        self._heard.add(pieces)
        self._builder.add(pieces)

    def body(self, usage: Usage | None) -> bytes:
        self._heard.end(usage)
        return self._builder.body(usage)
