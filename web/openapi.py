"""The OpenAPI document of the routes that FastAPI does not see: those that carry tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from web.auth import PUBLIC_PATHS
from web.dialects import anthropic_schema, responses_schema
from web.dialects.embeddings import EmbeddingsRequest
from web.dialects.errors import speaks_anthropic
from web.dialects.openai_schema import ChatRequest, TextRequest
from web.dialects.service_schema import ServiceChat, ServiceText
from web.dialects.tokenize import DetokenizeRequest, TokenizeRequest

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

REFERENCE = "#/components/schemas/{model}"
OPERATIONS: dict[str, tuple[str, tuple[type[BaseModel], ...]]] = {
    "/v1/chat/completions": ("A message that answers messages", (ChatRequest,)),
    "/v1/completions": ("A text that continues a prompt", (TextRequest,)),
    "/chat/completions": (
        "With a prompt: the service's own chat, streamed as text; with messages: as /v1/chat/completions",
        (ServiceChat, ChatRequest),
    ),
    "/completions": (
        "The service's own completion; with a field that only OpenAI's has: as /v1/completions",
        (ServiceText, TextRequest),
    ),
    "/v1/embeddings": ("Vectors of texts, by a model for that", (EmbeddingsRequest,)),
    **dict.fromkeys(("/v1/tokenize", "/tokenize"), ("A text or a chat as a model's tokens", (TokenizeRequest,))),
    **dict.fromkeys(("/v1/detokenize", "/detokenize"), ("The text of tokens", (DetokenizeRequest,))),
    "/v1/responses": ("A response to items", (responses_schema.ResponsesRequest,)),
    "/v1/responses/input_tokens": ("How many tokens they are", (responses_schema.CountRequest,)),
    "/v1/messages": ("A message that answers messages, as Anthropic's API has it", (anthropic_schema.MessagesRequest,)),
    "/v1/messages/count_tokens": ("How many tokens they are", (anthropic_schema.CountRequest,)),
}
"""Path -> what a POST there does, and the bodies of which it takes one."""
PLAIN = frozenset({
    "/v1/responses/input_tokens", "/v1/messages/count_tokens", "/v1/embeddings", "/v1/tokenize", "/tokenize",
    "/v1/detokenize", "/detokenize",
})  # fmt: skip
"""Of these, the ones that never stream."""
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
ANTHROPIC_ERROR = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {
                "type": {"type": "string"},
                "message": {"type": "string"},
                "details": {"type": "object", "properties": {"error_code": {"type": "string"}}},
            },
        },
        "request_id": {"type": "string"},
    },
}
KEY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's clients send it"},
    "header": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's clients send it"},
}
EVERYWHERE = {
    "401": "The API key is missing or not valid",
    "403": "The API key is not allowed to do this",
    "500": "The service failed",
    "503": "The service is shutting down, or the engine is starting, cannot start, or is at capacity",
}
STATUSES = EVERYWHERE | {
    "400": "The request is not valid, or the engine refuses it",
    "404": "The model does not exist",
    "408": "The caller read nothing of the answer for too long",
    "409": "Another turn of the session is under way",
    "413": "The body is too large",
    "415": "The body is not JSON by its media type",
    "429": "Too many requests, tokens or sessions",
    "502": "The engine failed",
    "504": "The deadline has passed",
}


def describe(api: FastAPI, *, keys: bool) -> None:
    """Make `api` describe the direct routes too, and, where they are asked for, the keys."""
    original = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = original()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= {"Error": ERROR, "AnthropicError": ANTHROPIC_ERROR}
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _tell_errors(path, operation)
                    _lift_schemas(schemas, operation)
            for path, (summary, models) in OPERATIONS.items():
                for model in models:
                    _add_schema(schemas, model)
                document["paths"][path] = {"post": _operation(path, summary, [_name(model) for model in models])}
            if keys:
                _ask_for_keys(document)
            api.openapi_schema = document
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _ask_for_keys(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = KEY_SCHEMES
    document["security"] = [{name: []} for name in KEY_SCHEMES]
    for path in PUBLIC_PATHS & document["paths"].keys():
        for operation in document["paths"][path].values():
            operation["security"] = []


def _name(model: type[BaseModel]) -> str:
    """Dialects have names in common: a schema's module is part of its name."""
    return f"{model.__module__.rpartition('.')[2].removesuffix('_schema')}.{model.__name__}"


def _add_schema(schemas: dict[str, Any], model: type[BaseModel]) -> None:
    name = _name(model)
    own = model.model_json_schema(ref_template=REFERENCE.format(model=f"{name}.{{model}}"))
    schemas.update({f"{name}.{part}": schema for part, schema in own.pop("$defs", {}).items()})
    schemas[name] = own


def _lift_schemas(schemas: dict[str, Any], operation: dict[str, Any]) -> None:
    """Put what a route has described by a whole JSON schema among the document's schemas: `#/$defs/…` in it would mean
    the document's own, where nothing is."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        if "$defs" in schema or ("title" in schema and "properties" in schema):
            name = schema["title"]
            own = json.loads(json.dumps(schema).replace('"#/$defs/', f'"{REFERENCE.format(model=name)}.'))
            schemas.update({f"{name}.{part}": inner for part, inner in own.pop("$defs", {}).items()})
            schemas[name] = own
            content["schema"] = {"$ref": REFERENCE.format(model=name)}


def _tell_errors(path: str, operation: dict[str, Any]) -> None:
    """What FastAPI does not know: that its 422 is a 400 here, what is refused before it sees a request, and that a name
    with a line feed in it leads nowhere."""
    responses = operation["responses"]
    more = dict(EVERYWHERE)
    if "{" in path:
        more["404"] = "Nothing has such a name"
    if responses.pop("422", None) is not None:
        more["400"] = "The request is not valid"
    for status, text in more.items():
        responses.setdefault(status, _failure(text))


def _operation(path: str, summary: str, models: list[str]) -> dict[str, Any]:
    kinds = [{"$ref": REFERENCE.format(model=model)} for model in models]
    schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    answer: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}}, "text/event-stream": {},
    }  # fmt: skip
    told = "One object, or with `stream` its events"
    if path in PLAIN:
        told = "One object"
        del answer["text/event-stream"]
    error = "AnthropicError" if speaks_anthropic(path) else "Error"
    responses = {status: _failure(text, error) for status, text in STATUSES.items()}
    responses["200"] = {"description": told, "content": answer}
    return {
        "summary": summary, "tags": ["generation"], "responses": responses,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
    }  # fmt: skip


def _failure(text: str, error: str = "Error") -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(model=error)}
    return {"description": text, "content": {"application/json": {"schema": schema}}}
