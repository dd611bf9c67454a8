"""What tests of usage have in common: prices, keys, and what the admin's route says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.settings import ApiKey, Model, Models, Prices, Security, Settings
from tests.configured_engines import ConfiguredEngines
from tests.web.conftest import MODEL, UNLIMITED, target_of

if TYPE_CHECKING:
    import aiohttp

    from tests.web.conftest import Json, Served

ALICE, BOB, ADMIN = "sk-alice-000000000001", "sk-bob-00000000000002", "sk-admin-000000000003"
PRICES: Json = {"prompt_tokens": "1.5", "cached_tokens": "0.5", "completion_tokens": "6"}


def priced(*, prices: Any = PRICES, keys: bool = True, budget: float | None = None, **more: Any) -> Settings:
    """One model for `/chat`, one that embeds; with keys, of which Alice's has the budget."""
    models = (
        Model(id="scripted", name=MODEL, local_engine="scripted", context_length=10**7, prices=prices),
        Model(id="embeds", name="org/embeds", local_engine="scripted", embedding=True, prices=Prices(prompt_tokens=2)),
    )
    api_keys = (
        ApiKey(key=ALICE, name="alice", monthly_budget=budget),
        ApiKey(key=BOB, name="bob"),
        ApiKey(key=ADMIN, name="admin", scopes=("admin",)),
    )
    security = Security(enable_auth=keys, api_keys=api_keys if keys else ())
    several = Models(available_models=models, max_concurrent_requests=1000)
    return Settings(models=several, limits=UNLIMITED, security=security, **more)


def engines_of(url: str) -> ConfiguredEngines:
    """One engine for all of its models."""
    models = priced().models
    return ConfiguredEngines(models, {model.id: target_of(url) for model in models.available_models})


async def usage(served: Served, http: aiohttp.ClientSession, query: str = "", *, key: str = ADMIN) -> Json:
    """What `/admin/usage` says."""
    headers = {"Authorization": f"Bearer {key}"}
    async with http.get(f"{served.url}/admin/usage{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        told: Json = await response.json()
        return told


def counted(line: Json) -> tuple[int, int, int, int, int]:
    """Requests (and those of them that were estimated), tokens of prompts, cached ones, and those of answers."""
    names = ("requests", "estimated_requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    requests, estimated, prompt, cached, completion = (line[name] for name in names)
    return requests, estimated, prompt, cached, completion
