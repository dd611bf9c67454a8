"""The Postman collection: examples that check their answers, and every operation of the OpenAPI document."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.documents.postman_examples import BODIES, STEPS, VALUES

Json = dict[str, Any]

SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
DESCRIPTION = (
    "Made by `make docs`. *Examples* is a walk through the API, each step with its assertions; *All operations* has "
    "every operation of /openapi.json, and checks that it answers with a status that it documents. Set base_url, "
    "api_key and model."
)


def collection(document: Json) -> str:
    """The text of the collection, in Postman's format 2.1."""
    steps = [_request(name, method, path, body, script=lines) for name, method, path, body, lines in STEPS]
    variables = {
        "base_url": "http://127.0.0.1:3000", "api_key": "none", "model": "demo", "embedding_model": "demo",
        "response_id": "",
    }  # fmt: skip
    told = {
        "info": {"name": "LLM inference service", "description": DESCRIPTION, "schema": SCHEMA},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{api_key}}", "type": "string"}]},
        "variable": [{"key": key, "value": value} for key, value in variables.items()],
        "item": [{"name": "Examples", "item": steps}, {"name": "All operations", "item": _operations(document)}],
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _operations(document: Json) -> list[Json]:
    folders: dict[str, list[Json]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            statuses = sorted(int(status) for status in operation["responses"])
            script = [
                f'pm.test("a documented status", () => pm.expect(pm.response.code).to.be.oneOf({statuses}));',
                'pm.test("an error says what it is", () => { if (pm.response.code >= 400) '
                "pm.expect(pm.response.json().error.message).to.be.a('string'); });",
            ]
            asked = re.sub(r"{(\w+)}", lambda name: VALUES.get(name[1], "none"), path)
            content = operation.get("requestBody", {}).get("content", {})
            body = BODIES.get(path) if "application/json" in content else None
            form = _form() if "multipart/form-data" in content else None
            name = f"{method.upper()} {path}"
            folder = folders.setdefault((operation.get("tags") or ["other"])[0], [])
            folder.append(_request(name, method.upper(), asked, body, script=script, form=form,
                                   description=operation.get("summary", "")))  # fmt: skip
    return [{"name": name, "item": items} for name, items in sorted(folders.items())]


def _form() -> list[Json]:
    return [
        {"key": "purpose", "value": "user_data", "type": "text"},
        {"key": "file", "value": "no file", "type": "text"},
    ]


def _request(
    name: str, method: str, path: str, body: Json | None, *, script: list[str], form: list[Json] | None = None,
    description: str = "",
) -> Json:  # fmt: skip
    request: Json = {"method": method, "header": [], "url": "{{base_url}}" + path}
    if description:
        request["description"] = description
    if body is not None:
        request["header"] = [{"key": "Content-Type", "value": "application/json"}]
        request["body"] = {"mode": "raw", "raw": json.dumps(body, indent=2, ensure_ascii=False)}
    if form is not None:
        request["body"] = {"mode": "formdata", "formdata": form}
    return {
        "name": name,
        "request": request,
        "event": [{"listen": "test", "script": {"type": "text/javascript", "exec": script}}],
    }
