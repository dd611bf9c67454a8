"""What a model is for (answers, images, embeddings), and what of it does not go together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.settings import Deploy, Model, Models, Settings


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"embedding": True, "vision": True}, "embeds or sees"),
        ({"matryoshka": True}, "need embedding = true"),
        ({"pooling": "mean"}, "need embedding = true"),
        ({"pooling": "max", "embedding": True}, "'mean', 'cls' or 'last'"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Model(id="a", name="b", **options)


def test_an_embedding_model_may_say_how() -> None:
    assert Model(id="a", name="b", embedding=True, pooling="cls", matryoshka=True).pooling == "cls"


def test_a_model_that_sees_is_not_served_by_llama_cpp() -> None:
    sees = Model(id="a", name="b", vision=True)
    assert Settings(models=Models(available_models=(sees,))), "in the cloud it is SGLang's"
    with pytest.raises(ValidationError, match="without a projector"):
        Settings(models=Models(available_models=(sees,)), deploy=Deploy(target="local"))
    elsewhere = sees.model_copy(update={"local_engine": "sglang"})
    assert Settings(models=Models(available_models=(elsewhere,)), deploy=Deploy(target="local"))
