"""What the suite speaks to: the service, started here in one of its forms, or somebody's deployment."""

from __future__ import annotations

import contextlib
import json
import secrets
import sys
import urllib.request
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from emulator.emulator import Emulator
from tests.benchmarks.processes import running
from tests.conformance.clients.harness import BROKEN, CALLING, COLD, FULL, SINGLE, WRITING
from tests.ports import free_port
from tests.service.deployment import DEMO, deploy

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_KEY = "none"
STEADY = "scripted/steady"
"""The name of the model that most checks use; it holds a slash, as names do."""
BODY_LIMIT = 1_000_000
HEARTBEAT_SECONDS = 0.5
KEEPALIVE_SECONDS = 0.4
EMBEDDING = "embedding"
CLIENTS_WITH_A_LIMIT = 12
LIMITED_REQUESTS = 2

FEATURES = {
    "scripted": "its engine does as `x_scripted` in a request's body says",
    "single": "it offers a model that serves one request at once",
    "cold": "it offers a model whose engine can be put away, and takes a second to boot",
    "keys": "it checks keys (what a deployment promises that is given one)",
    "limits": "it knows a key with a limit of two requests a minute for each client",
    "small-bodies": f"it takes bodies of at most {BODY_LIMIT} bytes",
    "keepalive": f"a plain answer's first byte comes within {KEEPALIVE_SECONDS} s or so, whatever the engine does",
    "heartbeat": f"no stream is silent for {HEARTBEAT_SECONDS} s or longer",
    "messages": "it speaks Anthropic's dialect too",
    "responses": "it speaks the Responses API too",
    "own-sockets": "nothing stands between its callers and its own sockets",
    "own-dialect": "it has the service's own routes, the WebSocket and sessions among them",
    "embeddings": "its model makes embeddings",
    "tools": "a required tool is called by whatever model it has",
}
"""What a check may need beyond an API that speaks OpenAI's dialect."""


SCRIPTED_FEATURES = frozenset({
    "scripted", "single", "keys", "limits", "small-bodies", "keepalive", "heartbeat", "messages", "responses",
    "embeddings", "tools", "own-dialect",
})  # fmt: skip
"""What the service promises when it is started here."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service that runs. `url`: without `/v1` and without a trailing slash."""

    url: str
    model: str
    api_key: str = NO_KEY
    tool_model: str = ""
    """With `tools`."""
    embedding_model: str = ""
    """With `embeddings`."""
    features: frozenset[str] = frozenset()
    limited_keys: list[str] = field(default_factory=list)
    """Each is used up by whoever takes it: see `told_to_clients`."""
    name: str = "deployment"

    def for_client(self) -> str:
        """What a client's process is told of it. Every call hands out another limited key."""
        limited = self.limited_keys.pop() if self.limited_keys else ""
        features = self.features if limited else self.features - {"limits"}
        told = {"url": self.url, "model": self.model, "api_key": self.api_key, "limited_key": limited}
        more = {"embedding_model": self.embedding_model, "tool_model": self.tool_model, "features": sorted(features)}
        return json.dumps(told | more)


def needs(target: Target, *features: str) -> None:
    """Skip this test, saying why, where the target lacks one of them."""
    if missing := [feature for feature in features if feature not in target.features]:
        pytest.skip(f"the target has no {', '.join(missing)}")


def models(*, kept: bool) -> list[dict[str, Any]]:
    """`kept`: engines are started without being asked for, and stay, but for the cold one's."""

    def scripted(model_id: str, *arguments: str, **script: Any) -> dict[str, Any]:
        return {
            "id": model_id, "name": f"scripted/{model_id}", "local_engine": "scripted",
            "scripted_args": [*arguments, "--script", json.dumps(script)],
            "scaling": {"min_containers": int(kept and model_id != COLD)},
        }  # fmt: skip

    look = {"name": "look", "arguments": '{"at": 7}'}
    return [
        scripted("steady"),
        scripted(COLD, "--boot-seconds", "1"),
        scripted(FULL, "--max-running", "0"),
        scripted(SINGLE, "--max-running", "1", gap=0.02, tokens=5000),
        scripted(BROKEN, error_after=2),
        scripted(CALLING, text="seen ", tool_calls=[look]),
        scripted(WRITING, text='{"at": 3}'),
        {**scripted(EMBEDDING), "embedding": True},
        DEMO,
    ]


def configuration(target: Target, *, kept: bool) -> dict[str, str]:
    """The environment of the service that is to be this target."""
    generous = [
        {
            "key": target.api_key,
            "name": "conformance",
            "rate_limit_per_minute": 1_000_000,
            "scopes": ["inference", "admin", "metrics"],
        }
    ]
    limited = [
        {"key": key, "name": f"limited {number}", "rate_limit_per_minute": LIMITED_REQUESTS}
        for number, key in enumerate(target.limited_keys)
    ]
    values: dict[str, Any] = {
        "MODELS__AVAILABLE_MODELS": models(kept=kept),
        "WEB__MAX_BODY_BYTES": BODY_LIMIT,
        "WEB__HEARTBEAT_INTERVAL": HEARTBEAT_SECONDS,
        "WEB__PLAIN_KEEPALIVE_AFTER": KEEPALIVE_SECONDS,
        "SECURITY__ENABLE_AUTH": "true",
        "SECURITY__API_KEYS": generous + limited,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def _planned(name: str, features: frozenset[str]) -> Target:
    return Target(
        url="",
        model=STEADY,
        tool_model=DEMO["id"],
        embedding_model=EMBEDDING,
        api_key=f"sk-{secrets.token_hex(16)}",
        features=features,
        name=name,
        limited_keys=[f"sk-limited-{secrets.token_hex(16)}" for _ in range(CLIENTS_WITH_A_LIMIT)],
    )


@contextlib.contextmanager
def standalone() -> Iterator[Target]:
    """The service in this machine's own processes, without Modal."""
    target = _planned("standalone", SCRIPTED_FEATURES | {"cold", "own-sockets"})
    port = free_port()
    place = {"SERVER__HOST": "127.0.0.1", "SERVER__PORT": str(port)}
    command = [sys.executable, "-m", "functions.standalone"]
    with running(command, port=port, environment=configuration(target, kept=True) | place):
        yield replace(target, url=f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def emulator() -> Iterator[Target]:
    """The real app.py, deployed by the real client to the emulator: behind Modal's bridge and its ingress."""
    target = _planned("emulator", SCRIPTED_FEATURES)
    with Emulator() as running_emulator:  # no threads: the demo model's files lie where a thread cannot show them
        given = configuration(target, kept=False)
        configured = json.loads(given.pop("MODELS__AVAILABLE_MODELS"))
        service = deploy(running_emulator, configured, **given)
        yield replace(target, url=service.url)


def deployment(url: str, api_key: str, *, model: str | None, embedding_model: str | None, promises: str) -> Target:
    """Somebody's: nothing is known of it but what its operator says it has (`promises`, with commas)."""
    url = url.rstrip("/").removesuffix("/v1")
    features = frozenset(filter(None, promises.split(","))) | ({"keys"} if api_key != NO_KEY else set())
    if unknown := features - set(FEATURES):
        raise ValueError(f"no such features: {', '.join(sorted(unknown))}; there are {', '.join(FEATURES)}")
    if model is None:
        request = urllib.request.Request(f"{url}/v1/models", headers={"Authorization": f"Bearer {api_key}"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            model = str(json.load(answer)["data"][0]["id"])
    return Target(
        url=url, api_key=api_key, model=model, tool_model=model, embedding_model=embedding_model or "",
        features=features | ({"embeddings"} if embedding_model else set()),
    )  # fmt: skip
