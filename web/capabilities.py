"""What a model can be asked: told from its settings before an engine is woken. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from infra.settings import Model
    from web.dialects.request import GenerationRequest


def check_generation(model: Model, request: GenerationRequest, *, fetched: bool = False) -> None:
    """Raise InvalidRequest unless `model` answers such requests. `fetched`: whether its engine may fetch images."""
    if model.embedding:
        raise InvalidRequest(
            f"The model '{model.id}' makes embeddings and no answers: use /v1/embeddings, or another model.",
            param="model", code="model_not_supported",
        )  # fmt: skip
    if request.kind != "chat":
        return
    for place, url in _images(request):
        if not model.vision:
            raise InvalidRequest(
                f"The model '{model.id}' does not see: its messages hold no images.",
                param=place, code="unsupported_value",
            )  # fmt: skip
        if not fetched and not url.startswith("data:"):
            raise InvalidRequest(
                "Images are not fetched here: send them in the request, as data:image/…;base64,… URLs.",
                param=place, code="unsupported_value",
            )  # fmt: skip


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


def _images(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """Where each image of the messages stands, as the caller calls it, and its address."""
    messages: Sequence[Any] = request.fields["messages"]
    for position, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for index, part in enumerate(content):
            if part.get("type") == "image_url":
                place = f"messages[{position}].content[{index}]"
                yield "images" if request.prompt_field == "prompt" else place, part["image_url"]["url"]
