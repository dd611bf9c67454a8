"""Nothing is open but what is said to be: every operation of the OpenAPI document, and every method, is tried."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import ApiKey, Security
from tests.documents import api
from tests.web.conftest import settings_with
from web.auth import PUBLIC_PATHS

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served

KEYS = {scope: f"sk-{scope}-{40 * 'k'}" for scope in ("inference", "admin", "metrics")}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND")
ADMIN = re.compile(r"/admin/|/models/.+/(load|unload)$")
MODELS = re.compile(r"/(completions|embeddings|messages|count_tokens|responses|input_tokens|(de)?tokenize|batches)$")


@pytest.fixture
def locked(serve: Any, engine: ScriptedServer) -> Served:
    keys = tuple(ApiKey(key=key, name=scope, scopes=(scope,)) for scope, key in KEYS.items())
    security = Security(enable_auth=True, api_keys=keys)
    served: Served = serve(engine, settings=settings_with().model_copy(update={"security": security}))
    return served


def operations() -> list[tuple[str, str]]:
    """Method and path of each, with something for each name in it."""
    paths = api.openapi()["paths"]
    return [(method.upper(), re.sub(r"{\w+}", "x", path)) for path, methods in paths.items() for method in methods]


async def test_without_a_key_every_operation_and_every_method_is_refused(
    locked: Served, http: aiohttp.ClientSession
) -> None:
    paths = {path for _, path in operations()} - PUBLIC_PATHS
    assert len(paths) > 40
    for path in sorted(paths | {"/nothing", "/admin", "/docs", "/redoc", "/debug", "/.env"}):
        for method in METHODS:
            async with http.request(method, locked.url + path) as response:
                assert response.status == 401, (method, path)


async def test_a_key_without_the_scope_administers_nothing_and_asks_no_model(
    locked: Served, http: aiohttp.ClientSession
) -> None:
    tried = 0
    for method, path in operations():
        wrong = "inference" if ADMIN.search(path) else "metrics" if method == "POST" and MODELS.search(path) else None
        if wrong is None:
            continue
        tried += 1
        headers = {"Authorization": f"Bearer {KEYS[wrong]}"}
        body = {"model": "org/scripted-model", "prompt": "x", "input": "x", "max_tokens": 1, "tokens": [1],
                "messages": [{"role": "user", "content": "x"}], "input_file_id": "file-x",
                "endpoint": "/v1/chat/completions", "completion_window": "24h"}  # fmt: skip
        if path in ("/chat/completions", "/v1/completions", "/completions", "/v1/tokenize", "/tokenize"):
            del body["messages"]
        async with http.request(method, locked.url + path, headers=headers, json=body) as response:
            assert response.status == 403, (method, path, await response.text())
    assert tried > 20
    async with http.get(locked.url + "/metrics", headers={"Authorization": f"Bearer {KEYS['inference']}"}) as response:
        assert response.status == 403
