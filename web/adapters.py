"""LoRA adapters, which callers name behind their model: `qwen:french`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from infra.settings import Models
    from web.engines import EngineTarget


def served_name(label: str, models: Models, target: EngineTarget) -> str:
    """What the engine at `target` is told of the model that its caller calls `label`.

    Raises InvalidRequest where an adapter is named and the engine, in the place of another here, has none.
    """
    adapter = models.adapter(label)
    if adapter is None:
        return target.model
    if target.kind == "llamacpp":
        raise InvalidRequest(
            f"The adapter '{adapter}' of '{label}' is not there: llama.cpp serves the model here, without adapters.",
            param="model", code="adapter_not_found",
        )  # fmt: skip
    return f"{target.model}:{adapter}"
