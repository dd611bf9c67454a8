"""OpenAI's embeddings: its request, what engines are asked and say, its answer. Pure.

SGLang and llama.cpp have the same route. Both give each vector as numbers or as base64 of little-endian float32, the
form in which OpenAI's SDKs ask for it unless told otherwise: so engines are asked for that, and most vectors pass
through as they are.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field

from web.dialects.engines import EngineCall
from web.dialects.openai_schema import Count, Open, Several, Token
from web.dialects.pieces import Usage
from web.dialects.validation import validated
from web.errors import EngineBroken, EngineRefused, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web.engines import EngineTarget
    from web.errors import ServiceError

Json = dict[str, Any]
MOST_INPUTS = 2048
Text = Annotated[str, Field(min_length=1)]


class EmbeddingsRequest(Open):
    """`POST /v1/embeddings`."""

    model: str
    input: Text | Several[Text] | Several[Token] | Several[Several[Token]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Count | None = None
    user: str | None = None


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """A request for embeddings, validated. `inputs`: texts, or lists of token ids."""

    model: str
    inputs: Sequence[str | list[int]]
    base64: bool
    dimensions: int | None


def parse_embeddings(body: bytes) -> Embedding:
    """Raises InvalidRequest naming the parameter at fault."""
    given = validated(body, EmbeddingsRequest, refused={})
    one = given["input"]
    several = isinstance(one, list) and not isinstance(one[0], int)
    if several and len(one) > MOST_INPUTS:
        raise InvalidRequest(
            f"'input' has {len(one)} items: there may be {MOST_INPUTS}.", param="input", code="invalid_value"
        )
    return Embedding(
        model=given["model"], inputs=one if several else [one],
        base64=given.get("encoding_format") == "base64", dimensions=given.get("dimensions"),
    )  # fmt: skip


def embeddings_call(target: EngineTarget, wanted: Embedding) -> EngineCall:
    """What an engine is asked."""
    body = {"model": target.model, "input": wanted.inputs, "encoding_format": "base64"}
    return EngineCall(path="/v1/embeddings", body=orjson.dumps(body), abort=None)


def embeddings_answer(answer: Json, wanted: Embedding) -> bytes:
    """What the caller is told. Raises EngineBroken; InvalidRequest when more dimensions are wanted than there are."""
    try:
        entries = sorted(answer["data"], key=lambda entry: entry["index"])
        vectors = [_told(entry["embedding"], wanted) for entry in entries]
        usage = embeddings_usage(answer)
    except (KeyError, TypeError, ValueError, struct.error, binascii.Error):
        raise EngineBroken("The engine answered no embeddings.", code="engine_protocol") from None
    if len(vectors) != len(wanted.inputs):
        raise EngineBroken("The engine answered for another number of inputs.", code="engine_protocol")
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    tokens = 0 if usage is None else usage.prompt
    told = {"prompt_tokens": tokens, "total_tokens": tokens}
    return orjson.dumps({"object": "list", "data": data, "model": wanted.model, "usage": told})


def embeddings_usage(answer: Json) -> Usage | None:
    """As far as the engine tells it."""
    told = answer.get("usage")
    tokens = told.get("prompt_tokens") if isinstance(told, dict) else None
    return Usage(prompt=tokens, completion=0, cached=0, reasoning=None) if isinstance(tokens, int) else None


def embeddings_error(error: ServiceError) -> ServiceError:
    """An engine's refusal, with the field that is at fault. llama.cpp calls an input that is too long a failure of its
    own."""
    if isinstance(error, EngineBroken) and "too large to process" in error.message:
        message = "An input is longer than the model's context length."
        return EngineRefused(message, param="input", code="context_length_exceeded")
    if isinstance(error, EngineRefused) and error.param is None:
        return EngineRefused(error.message, param="input", code=error.code)
    return error


def _told(vector: str | list[float], wanted: Embedding) -> str | list[float]:
    """A vector in the form and of the length that the caller asked for."""
    if isinstance(vector, str) and wanted.base64 and wanted.dimensions is None:
        return vector
    if isinstance(vector, str):
        raw = base64.b64decode(vector, validate=True)
        values = list(struct.unpack(f"<{len(raw) // 4}f", raw))
    else:
        values = [float(value) for value in vector]
    if wanted.dimensions is not None:
        values = _shortened(values, wanted.dimensions)
    if not wanted.base64:
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _shortened(values: list[float], dimensions: int) -> list[float]:
    """The first of them, brought back to length one. Raises InvalidRequest when there are not so many."""
    if dimensions > len(values):
        raise InvalidRequest(
            f"Invalid value for 'dimensions': the model's vectors have {len(values)}.",
            param="dimensions", code="invalid_value",
        )  # fmt: skip
    if dimensions == len(values):
        return values
    kept = values[:dimensions]
    length = math.sqrt(math.fsum(value * value for value in kept)) or 1.0
    return [value / length for value in kept]
