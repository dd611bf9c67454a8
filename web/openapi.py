"""The OpenAPI document of the routes that FastAPI does not see: those that carry tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from web.dialects.openai_schema import ChatRequest, Sampling, TextRequest

if TYPE_CHECKING:
    from fastapi import FastAPI

REFERENCE = "#/components/schemas/{model}"
OPERATIONS: dict[str, tuple[str, type[Sampling]]] = {
    "/v1/chat/completions": ("A message that answers messages", ChatRequest),
    "/v1/completions": ("A text that continues a prompt", TextRequest),
}
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
STATUSES = {
    "400": "The request is not valid, or the engine refuses it",
    "404": "The model does not exist",
    "413": "The body is too large",
    "500": "The service failed",
    "502": "The engine failed",
    "503": "The engine is still starting, cannot start, or is at capacity",
}


def describe(api: FastAPI) -> None:
    """Make `api` describe the direct routes too."""
    original = api.openapi

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = original()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Error"] = ERROR
            for path, (summary, model) in OPERATIONS.items():
                own = model.model_json_schema(ref_template=REFERENCE)
                schemas.update(own.pop("$defs", {}))
                schemas[model.__name__] = own
                document["paths"][path] = {"post": _operation(summary, model.__name__)}
            api.openapi_schema = document
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]


def _operation(summary: str, model: str) -> dict[str, Any]:
    body = {"application/json": {"schema": {"$ref": REFERENCE.format(model=model)}}}
    failure = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Error")}}}
    answer: dict[str, Any] = {
        "application/json": {"schema": {"type": "object"}}, "text/event-stream": {"schema": {"type": "string"}},
    }  # fmt: skip
    responses = {status: {"description": text, "content": failure} for status, text in STATUSES.items()}
    responses["200"] = {"description": "One object, or with `stream` its events", "content": answer}
    return {
        "summary": summary, "tags": ["generation"], "responses": responses,
        "requestBody": {"required": True, "content": body},
    }  # fmt: skip
