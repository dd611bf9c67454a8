"""Which settings of a model leave open what is fetched for it."""

from __future__ import annotations

from typing import Any

import pytest

from infra.revisions import advice, is_commit, unpinned
from infra.settings import Model, Models, Target

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("revision", "pinned"),
    [(None, False), ("main", False), ("v1.0", False), ("0" * 39, False), (COMMIT, True)],
)
def test_only_a_whole_commit_is_pinned(revision: str | None, pinned: bool) -> None:
    assert is_commit(revision) is pinned


BESIDE: dict[str, Any] = {
    "speculative": {"algorithm": "EAGLE3", "draft_model": "org/draft"},
    "lora": {"adapters": {"fr": {"name": "org/fr"}, "de": {"name": "org/de", "revision": COMMIT}, "x": {"name": "/x"}}},
}


@pytest.mark.parametrize(
    ("changes", "target", "keys"),
    [
        ({}, "modal", ["revision"]),
        ({"revision": "main"}, "local", ["revision"]),
        ({"revision": COMMIT}, "modal", []),
        ({"path": "/weights"}, "modal", []),
        ({"local_engine": "scripted"}, "local", []),
        ({"sglang": BESIDE, "revision": COMMIT}, "modal",
         ["sglang.speculative.draft_revision", "sglang.lora.adapters.fr.revision"]),
        ({"sglang": BESIDE, "revision": COMMIT}, "local", []),
    ],
)  # fmt: skip
def test_each_revision_that_may_move_is_named(changes: dict[str, Any], target: Target, keys: list[str]) -> None:
    model = Model.model_validate({"id": "m", "name": "org/m", **changes})
    assert unpinned(model, Models(available_models=(model,)), target=target) == keys


def test_code_that_may_run_is_spoken_of() -> None:
    assert "code" not in advice(Model(id="m", name="m"), ["revision"])
    trusting = Model.model_validate({"id": "m", "name": "m", "sglang": {"trust_remote_code": True}})
    assert "and its code, which may run in the engine, may change" in advice(trusting, ["revision"])
