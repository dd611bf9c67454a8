"""What is not deployed and not served: a service that anybody could use, or that could keep nothing. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from infra import gpus
from infra.configuration import ConfigurationError

if TYPE_CHECKING:
    from infra.settings import Settings


def refuse_unprotected_deploy(settings: Settings) -> None:
    """Raise ConfigurationError for a public deploy that anybody could use."""
    security = settings.security
    if settings.deploy.target == "modal" and not security.enable_auth and not security.allow_public:
        raise ConfigurationError(
            "security.enable_auth: is off, so anybody could use (and make you pay for) the deployed endpoint; "
            "expected it on, and API keys (config.example.toml), or security.allow_public = true to allow just that"
        )


def refuse_without_credentials(settings: Settings) -> None:
    """Raise ConfigurationError for a deploy to Modal whose web containers could not reach DynamoDB."""
    state = settings.state
    if settings.deploy.target != "modal" or state.kind != "aws" or state.secret:
        return
    if not state.role_arn:
        raise ConfigurationError(
            "state.role_arn: names no role, and state.secret no Modal Secret with AWS credentials, so nothing could be "
            'kept in DynamoDB; expected one of them, or state.kind = "memory" to keep sessions in the web containers'
        )
    if not state.region:
        raise ConfigurationError(
            "state.region: is not set, and with a role nothing else says where the table is; expected AWS's name of a "
            "region (eu-central-1)"
        )


def refuse_impossible_snapshots(settings: Settings) -> None:
    """Raise ConfigurationError for a model that is to be started from snapshots and whose engine cannot be in one."""
    for model in settings.models.available_models:
        engine = model.engine_for(settings.models, "modal")
        if not model.snapshot or engine == "scripted":
            continue
        why = None
        if engine == "llamacpp":
            why = "llama.cpp cannot give its memory back and take it again, and loads in about a second without"
        elif model.device_of(settings.models) != "cuda":
            why = 'SGLang gives memory back on a GPU (device = "cuda") only'
        elif gpus.split(model.gpu)[1] > 1:
            why = f"gpu = {model.gpu!r} is several, and what they say to each other (NCCL) is in no snapshot"
        if why is not None:
            raise ConfigurationError(f"models.available_models: {model.id!r} has snapshot = true, and {why}")


def refuse_without_image(settings: Settings) -> None:
    """Raise ConfigurationError for a deploy to Modal of a model whose container would have SGLang for GPUs on a CPU."""
    models, target = settings.models, settings.deploy.target
    for model in models.available_models:
        on_a_cpu = model.engine_for(models, target) == "sglang" and model.runs_on(models, target) == "cpu"
        if target == "modal" and on_a_cpu and model.sglang.image is None:
            raise ConfigurationError(
                f"model {model.id!r}: sglang.image: SGLang's team publishes no image for CPUs; expected the tag of one"
                " that you built of its docker/xeon.Dockerfile (v0.5.23) and pushed to a registry, or "
                'engine = "llamacpp"'
            )


def refuse_unprotected_host(settings: Settings) -> None:
    """Raise ConfigurationError for a service of this machine that other machines could use without a key."""
    security, host = settings.security, settings.server.host
    if not is_loopback(host) and not security.enable_auth and not security.allow_public:
        raise ConfigurationError(
            f"server.host: {host!r} lets other machines in, and security.enable_auth is off, so anybody could use the "
            "service; expected 127.0.0.1, API keys, or security.allow_public = true to allow just that"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
