"""What is prefetched, what is not and why, and how that is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from functions.prefetching import Told, prefetch, why_not
from infra.settings import Deploy, Model, Models, Settings

if TYPE_CHECKING:
    import modal


class Containers:
    """Stands for the remote function: one answer for each model."""

    def __init__(self, **answers: Told | Exception) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def map(self, ids: list[str], *, return_exceptions: bool) -> list[Told | Exception]:
        assert return_exceptions
        self.asked += ids
        return [self.answers[model_id] for model_id in ids]


def settings(*models: Model) -> Settings:
    return Settings(models=Models(available_models=models), deploy=Deploy(target="local"))


def asked(given: Settings, label: str, containers: Containers) -> None:
    prefetch(given, label, cast("modal.Function[Any, Any, Any]", containers))


QWEN = Model(id="qwen", name="Qwen/Qwen2.5-0.5B-Instruct")
DEMO = Model(id="demo", name="demo", path="functions/demo/model")
SCRIPTED = Model(id="words", name="words", local_engine="scripted")
GOOD = Told(model="qwen", lines=["took it"], failed=False)


def test_only_what_comes_from_the_hub_is_fetched_and_the_rest_says_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    containers = Containers(qwen=GOOD)
    asked(settings(QWEN, DEMO, SCRIPTED), "", containers)
    assert containers.asked == ["qwen"]
    assert capsys.readouterr().out.splitlines() == [
        "demo: nothing to fetch: its files travel in its image (its `path` is set)",
        "words: nothing to fetch: the scripted engine has no weights",
        "qwen: took it",
    ]
    assert why_not(QWEN, settings(QWEN)) is None


def test_a_model_is_named_by_its_id_or_its_name() -> None:
    other = QWEN.model_copy(update={"id": "other", "name": "org/other"})
    containers = Containers(qwen=GOOD)
    asked(settings(QWEN, other), QWEN.name, containers)
    assert containers.asked == ["qwen"]


def test_one_that_fails_ends_the_process_with_1_after_the_others_were_told(capsys: pytest.CaptureFixture[str]) -> None:
    gated = QWEN.model_copy(update={"id": "gated", "name": "org/gated"})
    dying = QWEN.model_copy(update={"id": "dying", "name": "org/dying"})
    containers = Containers(
        gated=Told(model="gated", lines=["is gated; set HF_TOKEN"], failed=True), dying=OSError("gone"), qwen=GOOD
    )
    with pytest.raises(SystemExit) as ended:
        asked(settings(gated, dying, QWEN), "", containers)
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.err.splitlines() == ["gated: is gated; set HF_TOKEN", "dying: its container failed: OSError('gone')"]
    assert told.out == "qwen: took it\n"


def test_a_model_that_is_not_configured_is_refused_with_those_that_are() -> None:
    with pytest.raises(SystemExit, match="none: is not among the configured models, which are qwen, demo"):
        asked(settings(QWEN, DEMO), "none", Containers())
