"""The API reference, made from the OpenAPI document that the service serves."""

from __future__ import annotations

import asyncio
import functools
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from infra.settings import ApiKey, Security, Settings
from tests.configured_engines import ConfiguredEngines
from web.application import Services, create_application
from web.auth import PUBLIC_PATHS
from web.engines import EngineTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, Any]


@functools.cache
def openapi() -> Json:
    """What `/openapi.json` answers, with keys on. No socket is opened and no engine is asked."""
    key = ApiKey(key="sk-" + 40 * "x", name="documents")
    settings = Settings(security=Security(enable_auth=True, api_keys=(key,)))
    engines = ConfiguredEngines(
        settings.models, {"demo": EngineTarget(url="http://127.0.0.1:9", model="demo", kind="scripted")}
    )
    application = create_application(Services(settings=settings, engines=engines))

    body = bytearray()

    async def receive() -> Json:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200
        body.extend(message.get("body", b""))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/openapi.json", "raw_path": b"/openapi.json", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"service")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip
    with ThreadPoolExecutor(1) as apart:  # from the loop of a test that asks
        apart.submit(lambda: asyncio.run(application(scope, receive, send))).result()
    told: Json = json.loads(body)
    return told


HEAD = """\
# API reference

<!-- Made from the OpenAPI document by `make docs`: change the routes and their schemas in web/, not this file. -->

Every operation, its parameters, its body's fields, and the statuses that it answers with, as `/openapi.json` has them.
[api.md](api.md) tells what they mean and shows examples: read that first. Where keys are asked for
(`security.enable_auth`), every operation needs one, but for those that are said to be open. `401` (no valid key), `403`
(not for this key), `500` and `503` can be the answer of any operation, and are not repeated below.
"""
EVERYWHERE = {"401", "403", "500", "503"}


def reference(document: Json) -> str:
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    operations.sort(key=lambda one: (_group(one[0]), one[0], one[1]))
    lines = [HEAD]
    group = ""
    for path, method, operation in operations:
        if _group(path) != group:
            group = _group(path)
            lines += [f"## {group}", ""]
        lines += _operation(document, path, method, operation)
    lines += ["## Schemas", "", "Those that bodies above are made of.", ""]
    for name in sorted(_reached(document)):
        lines += [f"### `{name}`", "", *_fields(document["components"]["schemas"][name])]
    return "\n".join(lines).rstrip() + "\n"


GROUPS = {
    "/v1/chat": "OpenAI: chat and completions", "/v1/completions": "OpenAI: chat and completions",
    "/v1/embeddings": "OpenAI: embeddings", "/v1/models": "Models", "/models": "Models",
    "/v1/responses": "OpenAI: responses and conversations", "/v1/conversations": "OpenAI: responses and conversations",
    "/v1/files": "OpenAI: files and batches", "/v1/batches": "OpenAI: files and batches",
    "/v1/messages": "Anthropic: messages", "/v1/sessions": "Sessions", "/sessions": "Sessions",
    "/chat/history": "Sessions", "/chat/completions": "The service's own chat and completions",
    "/completions": "The service's own chat and completions", "/v1/usage": "Usage", "/admin/usage": "Usage",
    "/admin/keys": "Keys", "/v1/tokenize": "Tokens", "/tokenize": "Tokens", "/v1/detokenize": "Tokens",
    "/detokenize": "Tokens",
}  # fmt: skip


def _group(path: str) -> str:
    for prefix, group in GROUPS.items():
        if path == prefix or path.startswith(prefix + "/"):
            return group
    return "Operating"


def _operation(document: Json, path: str, method: str, operation: Json) -> Iterator[str]:
    yield f"### `{method.upper()} {path}`"
    yield ""
    open_ = " Open without a key." if path in PUBLIC_PATHS else ""
    yield f"{operation.get('summary', '').rstrip('.')}.{open_}"
    yield ""
    if text := operation.get("description"):
        yield " ".join(text.split())
        yield ""
    if parameters := operation.get("parameters"):
        yield "| Parameter | In | Type | |"
        yield "|---|---|---|---|"
        for parameter in parameters:
            needed = "required. " if parameter.get("required") and parameter["in"] != "path" else ""
            told = _cell(needed + parameter.get("description", ""))
            yield f"| `{parameter['name']}` | {parameter['in']} | {_type(parameter['schema'])} | {told} |"
        yield ""
    for media, content in operation.get("requestBody", {}).get("content", {}).items():
        schema = content.get("schema", {})
        yield f"Body (`{media}`): {_type(schema)}."
        yield ""
        if "properties" in schema:
            yield from _fields(schema)
    yield "Answers: " + "; ".join(_answers(operation)) + "."
    yield ""


def _answers(operation: Json) -> Iterator[str]:
    for status, answer in sorted(operation["responses"].items()):
        if status in EVERYWHERE:
            continue
        told = answer.get("description", "").replace("Successful Response", "").rstrip(".")
        if status.startswith("2"):
            kinds = [_content(media, content) for media, content in answer.get("content", {}).items()]
            told += f" ({', '.join(kinds)})" if kinds and told else ", ".join(kinds)
        yield f"`{status}` {told}"


def _content(media: str, content: Json) -> str:
    schema = content.get("schema", {})
    return _type(schema) if "$ref" in schema else f"`{media}`"


def _fields(schema: Json) -> Iterator[str]:
    if text := schema.get("description"):
        yield " ".join(text.split())
        yield ""
    if not schema.get("properties"):
        yield f"{_type(schema)}."
        yield ""
        return
    yield "| Field | Type | Default | |"
    yield "|---|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        default = f"`{json.dumps(field['default'])}`" if "default" in field else "required" if name in required else ""
        yield f"| `{name}` | {_type(field)} | {_cell(default)} | {_cell(field.get('description', ''))} |"
    yield ""


BOUNDS = {
    "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}",
    "minLength": "at least {} long",
    "maxLength": "at most {} long", "minItems": "at least {}", "maxItems": "at most {}",
}  # fmt: skip


def _type(schema: Json) -> str:
    """A schema in a few words; those with a name are links to it."""
    bounds = [words.format(schema[name]) for name, words in BOUNDS.items() if name in schema]
    return _cell(", ".join([_kind(schema), *bounds]))


def _kind(schema: Json) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[`{name}`](#{name.lower().replace('.', '')})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(one)}`" for one in schema["enum"])
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[several]))
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _reached(document: Json) -> set[str]:
    """The names of the schemas that operations lead to."""
    schemas = document["components"]["schemas"]
    found: set[str] = set()

    def look(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(name := value.get("$ref"), str) and (name := name.rpartition("/")[2]) not in found:
                found.add(name)
                look(schemas[name])
            for inner in value.values():
                look(inner)
        elif isinstance(value, list):
            for inner in value:
                look(inner)

    look(document["paths"])
    return found


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
