"""`modal run app.py::prefetch [--model ID]`: the weights of all models, or of one, into the Volume ahead of their use.

Each model has a container of its own. What was there is not fetched again but is hashed again. A download whose
connection breaks goes on where it was; the Volume is committed whenever a file has come, so that a container that dies
takes along the one that it was at, no more. Two at once do no harm: a file is known by its hash, and what names the
files is written whole or not at all.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Final, TypedDict

from functions.weights import Local, WeightsError, fetch, plan, take
from functions.weights_beside import beside, refuse_unfit, with_beside
from infra.checkpoint import LONGER_ALLOWED
from infra.configuration import load_settings
from infra.revisions import is_commit
from infra.secrets import HF_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    import modal

    from functions.weights import Hub
    from infra.settings import Model, Settings

TIMEOUT_SECONDS: Final = 24 * 3600
"""Modal's longest: the largest models take hours on a slow day."""
RETRIES: Final = 3
"""Of a container that was taken away in the midst of it. What the hub refuses is told, not tried again."""


class Told(TypedDict):
    """What a container did for one model: lines to print, and whether the model can be started from the Volume."""

    model: str
    lines: list[str]
    failed: bool


def work(model_id: str, commit: Callable[[], None]) -> Told:
    """Fetch and verify the weights of one model. In a container; `commit`: of the Volume that `HF_HOME` is in."""
    settings = load_settings()
    model = settings.models.find(model_id)
    if model is None:
        raise LookupError(f"{model_id!r} is not among the configured models")
    lines: list[str] = []
    for source in sources_of(model, settings):
        began = time.monotonic()
        try:
            taken = take(
                source,
                token=os.environ.get(HF_TOKEN) or None,
                endpoint=settings.models.hf_endpoint,
                after_each=commit,
            )
        except WeightsError as error:
            return {"model": model.id, "lines": [*lines, error.message], "failed": True}
        finally:
            commit()
        files = "1 file" if taken.files == 1 else f"{taken.files} files"
        lines.append(
            f"{source.repository} at {taken.commit}: {files}, {taken.size:,} bytes, {taken.downloaded:,} of them "
            f"downloaded, all verified by hash, in {time.monotonic() - began:.1f} s"
        )
        if not is_commit(source.revision):
            lines.append(f'its revision is not pinned: revision = "{taken.commit}" in its configuration keeps it so')
    try:
        _refuse_unfit(model, settings)
    except WeightsError as error:
        return {"model": model.id, "lines": [*lines, f"cannot be served so: {error.message}"], "failed": True}
    return {"model": model.id, "lines": lines, "failed": False}


def _refuse_unfit(model: Model, settings: Settings) -> None:
    """Raise WeightsError where SGLang could not serve what lies in the cache now as it is configured."""
    engine = model.engine_for(settings.models, settings.deploy.target)
    if engine != "sglang" or model.path is not None:  # files that travel in an image are looked at where it is made
        return
    token, endpoint = os.environ.get(HF_TOKEN) or None, settings.models.hf_endpoint
    sources = with_beside(
        model, str(fetch(plan(model, engine), token=token, endpoint=endpoint)), token=token, endpoint=endpoint
    )
    # What an image of one's own says to its SGLang is not known here.
    environment = os.environ if model.sglang.image is None else {LONGER_ALLOWED: "1"}
    device = model.runs_on(settings.models, settings.deploy.target)
    refuse_unfit(model, sources, device=device, environment=environment)


def sources_of(model: Model, settings: Settings) -> list[Hub]:
    """What is fetched for `model`: its weights, and with SGLang what drafts for it and its adapters."""
    engine = model.engine_for(settings.models, settings.deploy.target)
    source = plan(model, engine)
    own = [] if isinstance(source, Local) else [source]
    return [*own, *(beside(model) if engine == "sglang" else [])]


def why_not(model: Model, settings: Settings) -> str | None:
    """Why nothing is to be fetched for `model`, where nothing is."""
    if model.engine_for(settings.models, settings.deploy.target) == "scripted":
        return "the scripted engine has no weights"
    if not sources_of(model, settings):
        return "its files travel in its image (its `path` is set)"
    return None


def prefetch(settings: Settings, label: str, remote: modal.Function[[str], Told, Told]) -> None:
    """Have it done for the model that is named, or for all, and print what was. Ends the process with 1 where a model
    cannot be had, or is not configured."""
    found = settings.models.find(label)
    if label and found is None:
        known = ", ".join(model.id for model in settings.models.available_models)
        sys.exit(f"{label}: is not among the configured models, which are {known}")
    wanted = settings.models.available_models if found is None else (found,)
    reasons = {model.id: why_not(model, settings) for model in wanted}
    for model_id, reason in reasons.items():
        if reason is not None:
            print(f"{model_id}: nothing to fetch: {reason}")
    failed = False
    asked = [model_id for model_id, reason in reasons.items() if reason is None]
    for model_id, told in zip(asked, remote.map(asked, return_exceptions=True), strict=True):
        if isinstance(told, BaseException):
            told = Told(model=model_id, lines=[f"its container failed: {told!r}"], failed=True)  # noqa: PLW2901
        failed |= told["failed"]
        for line in told["lines"]:
            print(f"{model_id}: {line}", file=sys.stderr if told["failed"] else sys.stdout)
    if failed:
        sys.exit(1)
