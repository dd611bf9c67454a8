"""The models: listed, described with their state, loaded and unloaded. Telling a state wakes no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from web.asgi import Presence
from web.auth import require_model, require_scope
from web.caller import caller_of
from web.dialects.service_device import device_of
from web.errors import EngineFailed, ModelNotFound, NotSupported, presentable

if TYPE_CHECKING:
    from infra.settings import Model, Settings
    from web.services import Services
    from web.states import EngineControl, ModelState, ModelStates

LOOK_SECONDS = 0.25
"""Between two looks at a model that a caller waits for."""
FAILURES: dict[int | str, dict[str, Any]] = {
    403: {"description": "The API key lacks the scope `admin`"},
    404: {"description": "The model does not exist"},
    501: {"description": "This deployment cannot do that"},
}

Wait = Annotated[bool, Query(description="Answer once it is loaded, or after the time that a plain caller waits")]
Force = Annotated[bool, Query(description="Stop it though it is busy: its requests end with an error")]


def router(services: Services, states: ModelStates) -> APIRouter:
    """Paths of one model may hold slashes, so the routes with more behind them come first."""
    api = APIRouter(tags=["models"])
    models, clock = services.settings.models, services.clock

    def find(label: str) -> Model:
        found = models.find(label)
        if found is None:
            raise ModelNotFound(label)
        return found

    def administered(request: Request, label: str) -> Model:
        """The model, for a caller who may load and unload it."""
        caller = caller_of(request.scope)
        require_scope(caller, "admin")
        found = find(label)
        require_model(caller, found)
        return found

    def controls() -> EngineControl:
        if services.control is None:
            raise NotSupported("This deployment's engines are not its own: it can neither load nor unload one.")
        return services.control

    @api.get("/v1/models", summary="The models that are offered")
    async def list_models() -> dict[str, Any]:
        known = await states.all()
        cards = [
            one
            for model in models.available_models
            for one in with_adapters(model, card(model, known[model.id], services.settings))
        ]
        pages = {"has_more": False, "first_id": cards[0]["id"], "last_id": cards[-1]["id"]}
        return {"object": "list", "data": cards, **pages}

    @api.get("/v1/models/{model:path}", summary="One model, by its id or its name (which may hold slashes)",
             responses={404: FAILURES[404]})  # fmt: skip
    async def get_model(model: str) -> dict[str, Any]:
        found = find(model)
        one, *adapted = with_adapters(found, card(found, await states.of(found.id), services.settings))
        adapter = models.adapter(model)
        return one if adapter is None else next(each for each in adapted if each["id"] == f"{found.id}:{adapter}")

    @api.get("/models", summary="The names of the models")
    async def list_names() -> dict[str, Any]:
        return {"models": [model.name for model in models.available_models]}

    @api.get("/models/{model:path}", summary="One model, as the service itself describes it",
             responses={404: FAILURES[404]})  # fmt: skip
    async def describe_model(model: str) -> dict[str, Any]:
        found = find(model)
        return description(found, await states.of(found.id), services.settings)

    @api.post(
        "/models/{model:path}/load", summary="Start a model's engine, and keep it", status_code=202,
        responses={**FAILURES, 200: {"description": "It is loaded"}, 503: {"description": "It cannot be"}},
    )  # fmt: skip
    async def load(request: Request, response: Response, model: str, wait: Wait = False) -> dict[str, Any]:
        found = administered(request, model)
        await controls().load(found.id)
        state = await states.anew(found.id)
        if wait:
            async with Presence(request.receive, request.scope):
                state = await until_loaded(found.id, state)
        response.status_code = 200 if state.state == "ready" else 202
        return description(found, state, services.settings)

    async def until_loaded(model: str, state: ModelState) -> ModelState:
        """Its state once it is loaded, or cold again because somebody unloaded it, or after a plain caller's time."""
        until = clock.monotonic() + services.settings.web.plain_deadline
        while state.state not in ("ready", "failed") and clock.monotonic() < until:
            await clock.sleep(LOOK_SECONDS)
            before, state = state, await states.of(model)
            if (before.state, state.state) == ("booting", "cold"):
                break
        if state.state == "failed":
            raise EngineFailed(state.reason or "its engine does not start")
        return state

    @api.post(
        "/models/{model:path}/unload", summary="Stop a model's engine; the next request starts it again",
        status_code=202,
        responses={**FAILURES, 200: {"description": "It is cold"}, 409: {"description": "It is busy"}},
    )  # fmt: skip
    async def unload(request: Request, response: Response, model: str, force: Force = False) -> dict[str, Any]:
        found = administered(request, model)
        await controls().unload(found.id, force=force)
        state = await states.anew(found.id)
        response.status_code = 200 if state.state == "cold" else 202
        return description(found, state, services.settings)

    return api


def card(model: Model, state: ModelState, settings: Settings) -> dict[str, Any]:
    """OpenAI's model object and Anthropic's in one, and what else there is to know. A model has no time of creation
    here: 0."""
    openai = {"id": model.id, "object": "model", "created": 0, "owned_by": "local"}
    anthropic = {
        "type": "model", "display_name": model.name, "created_at": "1970-01-01T00:00:00Z", "lifecycle": "active",
        "max_input_tokens": model.context_length,
    }  # fmt: skip
    return {**openai, **anthropic, **_facts(model, state, settings)}


def with_adapters(model: Model, one: dict[str, Any]) -> list[dict[str, Any]]:
    """The model's own object, then one for each of its LoRA adapters, which name it as their parent."""
    names = [f"{model.id}:{adapter}" for adapter in model.sglang.lora.adapters]
    return [one, *({**one, "id": name, "parent": model.id} for name in names)]


def description(model: Model, state: ModelState, settings: Settings) -> dict[str, Any]:
    """The service's own model object."""
    return {"id": model.id, **_facts(model, state, settings)}


def _facts(model: Model, state: ModelState, settings: Settings) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": model.name, "context_length": model.context_length, "quantization": model.quantization,
        "device": device_of(model, settings), "vision": model.vision, "embedding": model.embedding,
        "state": state.state, "phase": state.phase,
        "seconds": None if state.seconds is None else round(state.seconds, 1),
        "containers": state.containers, "requests": state.requests,
    }  # fmt: skip
    if state.boot is not None:
        facts["boot"] = {phase: round(seconds, 3) for phase, seconds in state.boot.items()}
    return facts if state.reason is None else {**facts, "reason": presentable(state.reason)}
