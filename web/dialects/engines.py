"""What each engine is told, and what of its answer is its own affair. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import EngineKind
    from web.dialects.pieces import Piece
    from web.dialects.request import GenerationRequest

    PieceFilter = Callable[[list[Piece]], list[Piece]]

PATHS = {"chat": "/v1/chat/completions", "text": "/v1/completions"}


@dataclass(frozen=True, kw_only=True)
class EngineCall:
    """One HTTP request to an engine: a POST of `body` to `path`, answered by a stream of events."""

    path: str
    body: bytes
    abort: bytes | None
    """The body of `POST /abort_request` that ends it, where the engine has that."""
    filter: PieceFilter | None = None
    """Made for this request: what its answer's pieces pass, where the engine's words are not the caller's."""


def engine_call(request: GenerationRequest, *, kind: EngineKind, model: str, rid: str) -> EngineCall:
    """The request in the words of an engine of this kind. Always streamed, always with usage.

    `model`: the name under which the engine serves it. `rid`: this request's own id. Raises InvalidRequest for what
    the engine would accept and not do.
    """
    body: dict[str, Any] = {**request.fields, "model": model, "stream": True, "stream_options": {"include_usage": True}}
    abort: bytes | None = orjson.dumps({"rid": rid})
    match kind:
        case "sglang":
            body["rid"] = rid
        case "scripted":
            body["rid"] = rid
            if "x_scripted" in request.extensions:
                body["x_scripted"] = request.extensions["x_scripted"]
        case "llamacpp":
            abort = None
            _for_llamacpp(body)
    return EngineCall(path=PATHS[request.kind], body=orjson.dumps(body), abort=abort)


def _for_llamacpp(body: dict[str, Any]) -> None:
    """llama.cpp's server: other names, and progress during prefill, so that it notices between two batches that the
    caller has left (without it only at the first token)."""
    body["return_progress"] = True
    if "repetition_penalty" in body:
        body["repeat_penalty"] = body.pop("repetition_penalty")
    choice = body.get("tool_choice")
    if choice is not None and choice not in ("none", "auto"):
        raise InvalidRequest(
            "This model's engine cannot be made to call a tool: use 'auto' or 'none'.",
            param="tool_choice", code="unsupported_value",
        )  # fmt: skip
