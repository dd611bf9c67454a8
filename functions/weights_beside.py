"""What SGLang loads beside the weights of a model: one that drafts for it, and its LoRA adapters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from functions.engines.sglang_command import Sources
from functions.weights import Hub, Local, WeightsError, fetch, folder_patterns
from infra.checkpoint import LONGER_ALLOWED, objections, read
from infra.revisions import HERE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.boot import Boot
    from functions.weights import Source
    from infra.settings import Device, Model


def draft_of(model: Model) -> Source | None:
    """Where the model that drafts for `model` is, if there is one."""
    told = model.sglang.speculative
    return None if told.draft_model is None else _folder(model, told.draft_model, told.draft_revision)


def adapters_of(model: Model) -> dict[str, Source]:
    """Where each LoRA adapter is, by the name that callers say."""
    return {name: _folder(model, one.name, one.revision) for name, one in model.sglang.lora.adapters.items()}


def beside(model: Model) -> list[Hub]:
    """What of it is fetched."""
    draft = draft_of(model)
    all_of_it = [*([] if draft is None else [draft]), *adapters_of(model).values()]
    return [source for source in all_of_it if isinstance(source, Hub)]


def with_beside(
    model: Model, source: str, *, token: str | None, endpoint: str | None, boot: Boot | None = None
) -> Sources:
    """All that SGLang loads for `model`, whose own weights lie at `source`. Blocks while it downloads, which
    `boot` is told of.

    Raises EngineStartError when something cannot be had.
    """

    def taken(one: Source) -> str:
        return str(fetch(one, token=token, endpoint=endpoint, boot=boot))

    draft = draft_of(model)
    return Sources(
        model=source,
        draft=None if draft is None else taken(draft),
        adapters={name: taken(one) for name, one in adapters_of(model).items()},
    )


def refuse_unfit(
    model: Model,
    sources: Sources,
    *,
    device: Device,
    environment: Mapping[str, str],
    largest_gib: float | None = None,
) -> None:
    """Raise WeightsError where the weights' own `config.json` says that SGLang could not serve `model` so: at once, and
    with the setting at fault. `environment`: of the engine. `largest_gib`: as `infra.checkpoint.objections` has it."""
    found = read(Path(sources.model))
    if found is None:
        return
    longer = environment.get(LONGER_ALLOWED, "").lower() in ("1", "true", "yes", "y")
    draft = None if sources.draft is None else read(Path(sources.draft))
    told = objections(model, found, device=device, longer=longer, draft=draft, largest_gib=largest_gib)
    for objection in told:
        raise WeightsError(f"{objection} (says config.json in {sources.model})")


def _folder(model: Model, name: str, revision: str | None) -> Source:
    """A path where the engine runs, or a repository on Hugging Face."""
    if name.startswith(HERE):
        return Local(path=Path(name).expanduser())
    return Hub(repository=name, revision=revision, patterns=folder_patterns(model), alternatives=False)
