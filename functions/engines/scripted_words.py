"""The scripted engine's tokens and embeddings: a word is a token, and a text's vector is made of its words' bytes."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from aiohttp import web

from functions.engines.script import flat_error

if TYPE_CHECKING:
    from functions.engines.script import Json

DIMENSIONS = 32
REMEMBERED_PREFIXES = 64
LONGEST_MODEL = 4096


class Vocabulary:
    """Words to ids, in the order in which they were first seen: what was tokenized can be told again."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []

    def ids(self, text: str) -> list[int]:
        found = []
        for word in text.split():
            if word not in self._ids:
                self._ids[word] = len(self._words)
                self._words.append(word)
            found.append(self._ids[word])
        return found

    def text(self, ids: list[int]) -> str:
        """Raises IndexError for an id that no word has."""
        if any(index < 0 for index in ids):
            raise IndexError
        return " ".join(self._words[index] for index in ids)


class PrefixCache:
    """What an engine knows of the latest prompts and answers: how much of a new prompt needs no prefill."""

    def __init__(self) -> None:
        self._known: deque[list[str]] = deque(maxlen=REMEMBERED_PREFIXES)

    def found(self, words: list[str]) -> int:
        """How many of the first words are known. The last one never is: an engine computes at least one token."""
        shared = (takewhile(lambda pair: pair[0] == pair[1], zip(known, words, strict=False)) for known in self._known)
        return min(max((sum(1 for _ in one) for one in shared), default=0), max(len(words) - 1, 0))

    def keep(self, words: list[str]) -> None:
        self._known.append(words)


def vector(text: str | list[int]) -> list[float]:
    """Of length one; the same for the same text."""
    digest = hashlib.shake_256(repr(text).encode()).digest(DIMENSIONS * 4)
    values = [value / 2**31 for value in struct.unpack(f"<{DIMENSIONS}i", digest)]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


def embeddings(body: Json) -> web.Response:
    """OpenAI's `/v1/embeddings`."""
    given: Any = body.get("input")
    inputs: list[Any] = given if isinstance(given, list) and not (given and isinstance(given[0], int)) else [given]
    counts = [len(item.split()) if isinstance(item, str) else len(item) for item in inputs]
    if max(counts, default=0) > LONGEST_MODEL:
        return _refusal("The input is longer than the model's context length.")
    vectors: list[list[float] | str] = [vector(item) for item in inputs]
    if body.get("encoding_format") == "base64":
        packed = (struct.pack(f"<{DIMENSIONS}f", *vector(item)) for item in inputs)
        vectors = [base64.b64encode(each).decode() for each in packed]
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
    usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
    return web.json_response({"object": "list", "model": body.get("model"), "data": data, "usage": usage})


def tokenize(body: Json, vocabulary: Vocabulary) -> web.Response:
    """SGLang's `/tokenize`. A chat's template is its messages' words."""
    text = body.get("prompt")
    if text is None:
        text = " ".join(_said(message.get("content")) for message in body["messages"])
    tokens = vocabulary.ids(text)
    return web.json_response({"tokens": tokens, "count": len(tokens), "max_model_len": LONGEST_MODEL})


def detokenize(body: Json, vocabulary: Vocabulary) -> web.Response:
    """SGLang's `/detokenize`."""
    try:
        return web.json_response({"text": vocabulary.text(body["tokens"])})
    except IndexError:
        return _refusal("Error decoding tokens: no word has such an id.")


def _said(content: object) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content)
    return content if isinstance(content, str) else ""


def _refusal(message: str) -> web.Response:
    return web.json_response(flat_error(status=400, message=message), status=400)
