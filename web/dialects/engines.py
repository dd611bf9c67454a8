"""What each engine is told, and what of its answer is its own affair. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from web.dialects.forced_tools import CallReader, OneCall, call_schema
from web.dialects.logprobs import LogprobsOf, OffsetsOf

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import EngineKind
    from web.dialects.pieces import Piece
    from web.dialects.request import GenerationRequest, Kind

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
    """Made for this request: what its answer's pieces pass, where the engine's words are not the caller's. What it
    tells as text is that text unchanged: such pieces may be relayed past it."""
    prompt_name: str | None = None
    """The caller's name for what holds the prompt: what the engine refuses is told with that."""


def engine_call(request: GenerationRequest, *, kind: EngineKind, model: str, rid: str) -> EngineCall:
    """The request in the words of an engine of this kind. Always streamed, always with usage.

    `model`: the name under which the engine serves it. `rid`: this request's own id.
    """
    body: dict[str, Any] = {**request.fields, "model": model, "stream": True, "stream_options": {"include_usage": True}}
    abort: bytes | None = orjson.dumps({"rid": rid})
    filters: list[PieceFilter] = []
    match kind:
        case "sglang":
            body["rid"] = rid
            filters += _for_sglang(body, request.kind, rid)
        case "scripted":
            body["rid"] = rid
            if "x_scripted" in request.extensions:
                body["x_scripted"] = request.extensions["x_scripted"]
        case "llamacpp":
            abort = None
            filters += _for_llamacpp(body, request.kind, rid)
    if body.get("parallel_tool_calls") is False:
        filters.append(OneCall())
    return EngineCall(
        path=PATHS[request.kind], body=orjson.dumps(body), abort=abort, filter=_one(filters),
        prompt_name=request.prompt_name,
    )  # fmt: skip


def _one(filters: list[PieceFilter]) -> PieceFilter | None:
    """One filter that does what these do, one after the other."""
    if len(filters) < 2:
        return filters[0] if filters else None

    def every(pieces: list[Piece]) -> list[Piece]:
        for each in filters:
            pieces = each(pieces)
        return pieces

    return every


def _for_sglang(body: dict[str, Any], kind: Kind, rid: str) -> list[PieceFilter]:
    """SGLang 0.5.23 has ways of its own to force a call, each with a gap (measured): without a `--tool-call-parser` it
    leaves the definitions of the parameters' schemas behind and streams calls as text; with one it took any tool for
    the one that was named, any arguments, and no end. A schema of the answer it holds in either case."""
    if kind == "text":
        return [] if body.get("logprobs") is None else [OffsetsOf()]
    choice = body.get("tool_choice")
    if choice != "required" and not isinstance(choice, dict):
        return []
    body["tool_choice"] = "auto"  # with "none" the model would not see the tools
    return [_force_call(body, choice, rid)]


def _force_call(body: dict[str, Any], choice: str | dict[str, Any], rid: str) -> PieceFilter:
    """The answer is held to the form of one call of the tools that may be called; the filter reads it as that."""
    body["tools"] = [_lenient(tool) for tool in body["tools"]]
    schema = call_schema(_chosen(body["tools"], choice))
    body["response_format"] = {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}
    return CallReader(rid)


def _lenient(tool: dict[str, Any]) -> dict[str, Any]:
    """`strict` would have SGLang put a grammar of its own beside the one that is asked of it."""
    return {**tool, "function": {name: value for name, value in tool["function"].items() if name != "strict"}}


def _for_llamacpp(body: dict[str, Any], kind: Kind, rid: str) -> list[PieceFilter]:
    """llama.cpp's server: other names, and progress during prefill, so that it notices between two batches that the
    caller has left (without it only at the first token). What it does not do as OpenAI does, a filter makes up for."""
    filters: list[PieceFilter] = []
    body["return_progress"] = True
    if body.get("continue_final_message"):
        body["add_generation_prompt"] = False
    if "repetition_penalty" in body:
        body["repeat_penalty"] = body.pop("repetition_penalty")
    if (wanted := body.get("logprobs")) not in (None, False):
        top = body.get("top_logprobs", 0) if kind == "chat" else wanted
        body["top_logprobs" if kind == "chat" else "logprobs"] = max(1, top)
        filters.append(LogprobsOf(kind, top=top))
    choice = body.get("tool_choice")
    if choice == "required" or isinstance(choice, dict):
        # With "none" its template still shows the tools to the model.
        body["tool_choice"] = "none"
        filters.append(_force_call(body, choice, rid))
    return filters


def _chosen(tools: list[dict[str, Any]], choice: str | dict[str, Any]) -> list[dict[str, Any]]:
    """The tools that may be called: all, or the one that `choice` names."""
    if isinstance(choice, str):
        return tools
    name = choice["function"]["name"]  # one of them: who parses requests has seen to it
    return [tool for tool in tools if tool["function"]["name"] == name]
