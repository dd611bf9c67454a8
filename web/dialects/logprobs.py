"""Engines' log probabilities in OpenAI's words, of which it has two: one for chats, one for completions. Pure.

Of llama.cpp both requests are answered in the chat's shape, with an `id` in each entry; asked for none of the most
likely tokens, it tells no log probabilities at all (completions) or twenty of them (chats). So it is asked for one.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from web.dialects.pieces import Piece
    from web.dialects.request import Kind

Json = dict[str, Any]


class LogprobsOf:
    """A filter of llama.cpp's pieces."""

    def __init__(self, kind: Kind, *, top: int) -> None:
        """`top`: how many of the most likely tokens the caller asked for."""
        self._kind = kind
        self._top = top
        self._offsets: dict[int, int] = {}

    def __call__(self, pieces: list[Piece]) -> list[Piece]:
        return [piece if piece.logprobs is None else self._told(piece) for piece in pieces]

    def _told(self, piece: Piece) -> Piece:
        entries = (piece.logprobs or {}).get("content") or []
        if self._kind == "chat":
            return piece._replace(logprobs={"content": [self._entry(entry) for entry in entries], "refusal": None})
        return piece._replace(logprobs=self._legacy(piece.choice, entries))

    def _entry(self, entry: Json) -> Json:
        return _plain(entry) | {"top_logprobs": [_plain(other) for other in self._likely(entry)]}

    def _legacy(self, choice: int, entries: list[Json]) -> Json:
        tokens = [entry["token"] for entry in entries]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets.get(choice, 0))
            self._offsets[choice] = offsets[-1] + len(token)
        likely = [{other["token"]: other["logprob"] for other in self._likely(entry)} for entry in entries]
        return {
            "tokens": tokens, "token_logprobs": [entry["logprob"] for entry in entries],
            "top_logprobs": likely if self._top else None, "text_offset": offsets,
        }  # fmt: skip

    def _likely(self, entry: Json) -> list[Json]:
        return (entry.get("top_logprobs") or [])[: self._top]


class OffsetsOf:
    """A filter of SGLang's pieces of a completion: it tells no token's `text_offset` (0.5.23 writes -1 for each). A
    piece begins where the text before it ended; tokens follow each other within it."""

    def __init__(self) -> None:
        self._said: dict[int, int] = {}

    def __call__(self, pieces: list[Piece]) -> list[Piece]:
        return [self._told(piece) for piece in pieces]

    def _told(self, piece: Piece) -> Piece:
        offset = self._said.get(piece.choice, 0)
        if piece.kind == "text":
            self._said[piece.choice] = offset + len(piece.value)
        if piece.logprobs is None:
            return piece
        offsets = list(accumulate(map(len, piece.logprobs["tokens"]), initial=offset))[:-1]
        return piece._replace(logprobs=piece.logprobs | {"text_offset": offsets})


def _plain(entry: Json) -> Json:
    return {"token": entry["token"], "logprob": entry["logprob"], "bytes": entry.get("bytes")}
