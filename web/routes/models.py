"""`GET /v1/models` and `GET /v1/models/{id or name}`: answered from the configuration; no engine is woken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from web.errors import ModelNotFound

if TYPE_CHECKING:
    from infra.settings import Model, Models


def router(models: Models) -> APIRouter:
    api = APIRouter(tags=["models"])

    @api.get("/v1/models", summary="The models that are offered")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [card(model) for model in models.available_models]}

    @api.get("/v1/models/{model:path}", summary="One model, by its id or its name (which may hold slashes)")
    async def get_model(model: str) -> dict[str, Any]:
        found = models.find(model)
        if found is None:
            raise ModelNotFound(model)
        return card(found)

    return api


def card(model: Model) -> dict[str, Any]:
    """OpenAI's model object, and what else there is to know. A model has no time of creation here: 0."""
    return {
        "id": model.id, "object": "model", "created": 0, "owned_by": "local", "name": model.name,
        "context_length": model.context_length, "quantization": model.quantization,
    }  # fmt: skip
