"""Which engine a model gets: from the configuration to an `Engine` that can be started."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from functions.cards import largest_gib
from functions.engines.llamacpp import LlamaCppEngine
from functions.engines.scripted import ScriptedEngine
from functions.engines.sglang import SGLangEngine
from functions.weights import fetch, plan
from functions.weights_beside import refuse_unfit, with_beside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from functions.boot import Boot
    from functions.engines.base import Address, Engine
    from infra.settings import Model, Settings


def make_engine(
    model: Model,
    settings: Settings,
    *,
    address: Address,
    api_key: str | None,
    files: Path,
    hf_token: str | None = None,
    boot: Boot | None = None,
    environment: Mapping[str, str] | None = None,
    rented: bool = True,
) -> Engine:
    """The engine that serves `model` on the configured target, not started yet.

    `files` is where the files of a model that has a `path` lie on this machine; the weights of others are downloaded
    here, unless they are in the cache. `boot` is told of that, and of what the engine does then. `environment`: more
    variables for an engine that compiles. `rented`: whether the GPUs are those that the model's `gpu` names, which is
    Modal's to give; else the machine is asked what it has. Raises EngineStartError when the weights cannot be had, or
    served so.
    """
    kind = model.engine_for(settings.models, settings.deploy.target)
    named = {name: os.environ[name] for name in settings.models.engine_environment if name in os.environ}
    environment = {**named, **(environment or {})}
    if kind == "scripted":
        return ScriptedEngine(
            address=address, model_name=model.id, arguments=model.scripted_args, api_key=api_key,
            startup_timeout=float(model.startup_timeout), boot=boot, environment=environment,
        )  # fmt: skip
    source = str(
        files
        if model.path is not None
        else fetch(plan(model, kind), token=hf_token, endpoint=settings.models.hf_endpoint, boot=boot)
    )
    most = model.concurrency(settings.models)
    if kind == "llamacpp":
        return LlamaCppEngine(
            model,
            source=source,
            address=address,
            api_key=api_key,
            max_requests=most,
            boot=boot,
            environment=environment,
        )
    sources = with_beside(model, source, token=hf_token, endpoint=settings.models.hf_endpoint, boot=boot)
    device = model.runs_on(settings.models, settings.deploy.target)
    refuse_unfit(
        model,
        sources,
        device=device,
        environment={**os.environ, **environment},
        largest_gib=None if rented or device != "cuda" else largest_gib(),
    )
    return SGLangEngine(
        model,
        device=device,
        sources=sources,
        address=address,
        api_key=api_key,
        max_requests=most,
        cuda_visible_devices=settings.models.cuda_visible_devices,
        boot=boot,
        environment=environment,
    )
