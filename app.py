"""The Modal App, whole: `python -m infra.setup`, then `modal deploy app.py`.

One Server for each configured model, and the web endpoint in front of them. Everything scales to zero.
"""

from __future__ import annotations

from typing import Any

import modal

from functions import batch_worker, batches, endpoint, jobs, prefetching
from functions.deployment import settings_for_deploy
from functions.endpoint import Endpoint, ServerEndpoint
from functions.images import WEIGHTS, engine_image, engine_volumes, prefetch_image, web_image, weights_volume
from functions.names import server_name
from functions.servers import (
    MODEL_VARIABLE,
    PORT_VARIABLE,
    STARTUP_MARGIN,
    gpu_of,
    port_of,
    scale_and_place,
    server_of,
    snapshots_of,
)
from infra.keys import carry_keys
from infra.secrets import SecretNames

settings = settings_for_deploy()
names = SecretNames.of(settings.deploy.app_name)

app = modal.App(settings.deploy.app_name)

told = settings.observability
state_secrets = [modal.Secret.from_name(settings.state.secret)] if settings.state.secret else []
metrics_secrets = state_secrets if told.enable_metrics else []  # engines' go to the table

servers = {
    model.id: app.server(
        name=server_name(model.id),
        env={MODEL_VARIABLE: model.id, PORT_VARIABLE: str(port_of(model, settings))},
        image=engine_image(model, settings),
        gpu=gpu_of(model, settings),
        secrets=[modal.Secret.from_name(names.engine), *metrics_secrets],
        volumes=engine_volumes(model, settings),
        port=port_of(model, settings),
        startup_timeout=model.startup_timeout + STARTUP_MARGIN,
        exit_grace_period=30,
        **snapshots_of(model, settings),
        **scale_and_place(model, settings),
    )(server_of(model, settings))
    for model in settings.models.available_models
}


collector_secrets = [modal.Secret.from_name(told.otlp_secret)] if told.traced and told.otlp_secret else []

web_parts: dict[str, Any] = {
    "image": web_image(settings),
    "secrets": [
        modal.Secret.from_name(names.web),
        modal.Secret.from_dict({**carry_keys(settings)}),
        *state_secrets,
        *collector_secrets,
    ],
    **settings.web.scaling.model_dump(),
}

if settings.deploy.web == "function":

    @app.cls(timeout=settings.web.timeout, enable_memory_snapshot=True, **web_parts)
    @modal.concurrent(max_inputs=settings.web.max_concurrent_requests)
    class Web(Endpoint):
        servers = servers
        web = modal.asgi_app(custom_domains=settings.deploy.custom_domains or None)(Endpoint.web)  # type: ignore[assignment]

else:

    @app.server(
        port=settings.deploy.first_port,
        unauthenticated=True,
        target_concurrency=settings.web.max_concurrent_requests,
        startup_timeout=endpoint.STARTUP_SECONDS,
        exit_grace_period=min(endpoint.LONGEST_GRACE, settings.web.timeout),
        **web_parts,
    )
    class Web(ServerEndpoint):  # type: ignore[no-redef]
        servers = servers


if settings.state.kind == "aws":

    @app.function(
        image=web_image(settings),
        secrets=state_secrets,
        schedule=modal.Cron(settings.jobs.cron),
        timeout=jobs.TIMEOUT_SECONDS,
        max_containers=1,
    )
    async def housekeeping() -> dict[str, int]:
        return await jobs.run_once()

    @app.function(
        name=batches.FUNCTION,
        image=web_image(settings),
        secrets=web_parts["secrets"],
        timeout=settings.batches.timeout,
        max_containers=settings.batches.max_containers,
        retries=batches.RETRIES,
    )
    async def batch(owner: str, batch_id: str) -> bool:
        return await batch_worker.work(owner, batch_id, servers)


# An App of its own, so that `modal run app.py::prefetch` starts no engine, and builds none of their images.
prefetch_app = modal.App(f"{settings.deploy.app_name}-prefetch")
weights = weights_volume(settings)


@prefetch_app.function(
    image=prefetch_image(settings),
    secrets=[modal.Secret.from_name(names.engine)],
    volumes={WEIGHTS: weights},
    timeout=prefetching.TIMEOUT_SECONDS,
    retries=prefetching.RETRIES,
)
def prefetch_weights(model_id: str) -> prefetching.Told:
    return prefetching.work(model_id, weights.commit)


@prefetch_app.local_entrypoint()
def prefetch(model: str = "") -> None:
    prefetching.prefetch(settings, model, prefetch_weights)
