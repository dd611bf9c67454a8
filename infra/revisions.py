"""Which of the weights that are fetched may change: those whose revision is no commit. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.models import Model, Models, Target

COMMIT_DIGITS: Final = frozenset("0123456789abcdef")
HERE: Final = ("/", "~", ".")
"""How a name begins that is a folder where the engine runs."""


def is_commit(revision: str | None) -> bool:
    """Whether a revision is one commit for ever, and no branch or tag that may move."""
    return revision is not None and len(revision) == 40 and set(revision) <= COMMIT_DIGITS


def unpinned(model: Model, models: Models, *, target: Target) -> list[str]:
    """The settings of `model` by which what its engine on `target` loads may be another tomorrow; none where all of it
    is pinned or on this machine."""
    engine = model.engine_for(models, target)
    if engine == "scripted":
        return []
    own = [] if model.path is not None or is_commit(model.revision) else ["revision"]
    return [*own, *(_beside(model) if engine == "sglang" else [])]


def _beside(model: Model) -> Iterator[str]:
    draft = model.sglang.speculative
    if draft.draft_model is not None and not draft.draft_model.startswith(HERE) and not is_commit(draft.draft_revision):
        yield "sglang.speculative.draft_revision"
    for name, adapter in model.sglang.lora.adapters.items():
        if not adapter.name.startswith(HERE) and not is_commit(adapter.revision):
            yield f"sglang.lora.adapters.{name}.revision"


def advice(model: Model, keys: list[str]) -> str:
    """One line on it, without the model's name."""
    which = " and ".join(keys)
    runs = ", and its code, which may run in the engine," if model.sglang.trust_remote_code else ""
    return f"{which}: expected a commit, without which what is fetched{runs} may change at any time"
