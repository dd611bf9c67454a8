"""What a client's dialect is: an internal request's answer in the words of that client, as a stream or whole. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from web.dialects.pieces import Piece, Usage
    from web.dialects.request import GenerationRequest
    from web.errors import WireError


class StreamRenderer(Protocol):
    """One streamed answer. Made for one request, fed in order."""

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        """The bytes of these pieces."""

    def around(self, choice: int) -> tuple[bytes, bytes] | Callable[[bytes], bytes] | None:
        """What stands before and after the text (as a JSON string) in a piece of nothing but text, until `pieces` is
        given one of another kind: such pieces are then relayed unparsed, past `pieces`. Asked before `pieces` is given
        the one that gave the occasion. Where each event has something of its own: what makes an event of such a text.
        None where the renderer has to see every piece."""

    def end(self, usage: Usage | None) -> bytes:
        """The last bytes of a complete answer."""

    def error(self, error: WireError) -> bytes:
        """The last bytes of an answer that failed after it began: an error that the client's SDK raises."""


class AnswerBuilder(Protocol):
    """One whole answer, collected from the same pieces."""

    def add(self, pieces: Iterable[Piece]) -> None:
        """Take in these pieces."""

    def body(self, usage: Usage | None) -> bytes:
        """The complete answer."""


class Dialect(Protocol):
    """How an answer is told. One without state is shared; one that collects (for a session) is made per request."""

    def stream(self, request: GenerationRequest, *, rid: str, created: int) -> StreamRenderer:
        """`rid`: the answer's own random id, without a prefix; `created`: Unix seconds."""

    def answer(self, request: GenerationRequest, *, rid: str, created: int) -> AnswerBuilder: ...
