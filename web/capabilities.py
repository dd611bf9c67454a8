"""What a model can be asked: told from its settings before an engine is woken. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.settings import Model
    from web.dialects.request import GenerationRequest


def check_generation(model: Model, request: GenerationRequest) -> None:
    """Raise InvalidRequest unless `model` answers such requests."""
    if model.embedding:
        raise InvalidRequest(
            f"The model '{model.id}' makes embeddings and no answers: use /v1/embeddings, or another model.",
            param="model", code="model_not_supported",
        )  # fmt: skip
    if request.kind == "chat" and not model.vision:
        _check_text_only(model, request)


def check_embeddings(model: Model, *, shortened: bool) -> None:
    """Raise InvalidRequest unless `model` makes embeddings; `shortened`: of fewer dimensions than it has."""
    if not model.embedding:
        raise InvalidRequest(
            f"The model '{model.id}' answers and makes no embeddings: use another model.",
            param="model", code="model_not_supported",
        )  # fmt: skip
    if shortened and not model.matryoshka:
        raise InvalidRequest(
            f"'dimensions' is not supported by the model '{model.id}', which was not trained to be shortened.",
            param="dimensions", code="unsupported_parameter",
        )  # fmt: skip


def _check_text_only(model: Model, request: GenerationRequest) -> None:
    messages: Sequence[Any] = request.fields["messages"]
    for position, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            if part.get("type") == "image_url":
                place = f"messages[{position}].content[{index}]"
                raise InvalidRequest(
                    f"The model '{model.id}' does not see: its messages hold no images.",
                    param="images" if request.prompt_field == "prompt" else place, code="unsupported_value",
                )  # fmt: skip
