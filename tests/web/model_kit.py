"""Two models whose engines answer nowhere, and a control of engines that a test moves by hand."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from infra.settings import Model, Models, Settings, Web
from tests.configured_engines import ConfiguredEngines
from web.engines import EngineTarget
from web.errors import ModelBusy
from web.states import COLD, ModelState

if TYPE_CHECKING:
    import aiohttp

NOBODY = "http://127.0.0.1:9"
READY = ModelState(state="ready", containers=1, requests=2)
MODELS = Models(
    available_models=(
        Model(id="small", name="org/small-model", context_length=64, quantization="q4"),
        Model(id="large", name="other/large.model", context_length=128),
    )
)
DIRECTORY = ConfiguredEngines(
    MODELS, {model: EngineTarget(url=NOBODY, kind="scripted", model=model) for model in ("small", "large")}
)


class HandControl:
    """An `EngineControl` that says what the test put into it."""

    def __init__(self, **states: ModelState) -> None:
        self.states = {"small": COLD, "large": COLD, **states}
        self.asked = 0
        self.done: list[str] = []
        self.raises: Exception | None = None
        self.holds = False

    def known(self, model: str) -> ModelState | None:
        return None

    async def state(self, model: str) -> ModelState:
        self.asked += 1
        if self.holds:
            await asyncio.Event().wait()
        if self.raises is not None:
            raise self.raises
        return self.states[model]

    async def load(self, model: str) -> None:
        self.done.append(f"load {model}")

    async def unload(self, model: str, *, force: bool) -> None:
        if self.states[model].requests and not force:
            raise ModelBusy(self.states[model].requests or 0)
        self.done.append(f"unload {model}" + " by force" * force)
        self.states[model] = COLD

    async def close(self) -> None:
        self.done.append("close")


def settings(**web: Any) -> Settings:
    return Settings(models=MODELS, web=Web(**web))


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as answer:
        return answer.status, await answer.json()


async def post(http: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any]:
    async with http.post(url, headers=headers) as answer:
        return answer.status, await answer.json()
