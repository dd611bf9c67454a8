"""The service's own answers over a WebSocket, as text frames: plain ones, or JSON for those who ask. Pure.

A renderer's bytes are whole frames, each closed by `END`, a byte that no UTF-8 text holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson

from web.dialects.service_answer import told_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from web.dialects.base import StreamRenderer
    from web.dialects.pieces import Piece, Usage
    from web.dialects.service_answer import Elapsed
    from web.errors import WireError

Json = dict[str, Any]

END = b"\xff"
ERROR_MARK = "__ERROR__:"


def frames(data: bytes) -> list[str]:
    """The frames in a renderer's bytes."""
    return [frame.decode() for frame in data.split(END)[:-1]]


class Talk(Protocol):
    """How a connection is spoken on: its answers, and what is said between and beside them. A frame of None is none."""

    def answer(self, elapsed: Elapsed) -> StreamRenderer: ...

    def begun(self, told: Json) -> str | None:
        """An answer begins: `told` says whose it is."""

    def stopped(self) -> str | None:
        """The answer ends here because its caller wanted so."""

    def error(self, error: WireError) -> str:
        """A request failed, as far as the frames before this one."""

    def status(self, text: str) -> str:
        """The service lives, and has nothing to say yet: why."""

    def pong(self) -> str: ...


class PlainTalk:
    """One frame for each piece of text; an error is `__ERROR__:message`; an empty frame says that the service lives."""

    def __init__(self, *, joined: bool = False) -> None:
        """`joined`: pieces that came together are one frame."""
        self._joined = joined

    def answer(self, elapsed: Elapsed) -> StreamRenderer:  # noqa: ARG002 (nobody is told)
        return PlainFrames(joined=self._joined)

    def begun(self, told: Json) -> str | None:  # noqa: ARG002
        return None

    def stopped(self) -> str | None:
        return None

    def error(self, error: WireError) -> str:
        return ERROR_MARK + error.message

    def status(self, text: str) -> str:  # noqa: ARG002
        return ""

    def pong(self) -> str:
        return ""


class PlainFrames:
    def __init__(self, *, joined: bool) -> None:
        self._joined = joined

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        texts = [piece.value for piece in pieces if piece.kind == "text" and piece.value]
        if self._joined and texts:
            texts = ["".join(texts)]
        return b"".join([_plain(text) for text in texts])

    def around(self, choice: int) -> None:  # noqa: ARG002
        return

    def end(self, usage: Usage | None) -> bytes:  # noqa: ARG002
        return b""

    def error(self, error: WireError) -> bytes:
        return (ERROR_MARK + error.message).encode() + END


def _plain(text: str) -> bytes:
    """Text that begins like an error is cut in two frames, neither of which does."""
    if not text.startswith(ERROR_MARK):
        return text.encode() + END
    return text[:1].encode() + END + text[1:].encode() + END


class JsonTalk:
    """Every frame is a JSON object with a `type`: `begin`, `piece`, `end`, `error`, `status`, `pong`."""

    def __init__(self, *, joined: bool = False) -> None:
        self._joined = joined

    def answer(self, elapsed: Elapsed) -> StreamRenderer:
        return JsonFrames(elapsed, joined=self._joined)

    def begun(self, told: Json) -> str | None:
        return _json({"type": "begin", **told})

    def stopped(self) -> str | None:
        return _json({"type": "end", "finish_reason": "stopped"})

    def error(self, error: WireError) -> str:
        return _json(_error(error))

    def status(self, text: str) -> str:
        return _json({"type": "status", "status": text})

    def pong(self) -> str:
        return _json({"type": "pong"})


class JsonFrames:
    def __init__(self, elapsed: Elapsed, *, joined: bool) -> None:
        self._elapsed = elapsed
        self._joined = joined
        self._finish: str | None = None

    def pieces(self, pieces: Iterable[Piece]) -> bytes:
        texts = []
        for piece in pieces:
            if piece.kind == "text" and piece.value:
                texts.append(piece.value)
            elif piece.kind == "finish":
                self._finish = piece.value
        if self._joined and texts:
            texts = ["".join(texts)]
        return b"".join([b'{"type":"piece","text":' + orjson.dumps(text) + b"}" + END for text in texts])

    def around(self, choice: int) -> None:  # noqa: ARG002
        return

    def end(self, usage: Usage | None) -> bytes:
        return orjson.dumps({"type": "end", **told_end(self._finish, usage, self._elapsed)}) + END

    def error(self, error: WireError) -> bytes:
        return orjson.dumps(_error(error)) + END


def _error(error: WireError) -> Json:
    told = {"message": error.message, "type": error.type, "param": error.param, "code": error.code}
    return {"type": "error", "error": told}


def _json(frame: Json) -> str:
    return orjson.dumps(frame).decode()
