"""The app of `bridge.py`: a bare relay and the service as web functions, each in one container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import modal

from tests.benchmarks import bare_relay, our_service

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PASSED_ON = ("MODELS__", "SECURITY__", our_service.UPSTREAM, bare_relay.UPSTREAM)
COALESCE_SECONDS = 0.005
"""As the service is deployed unless its configuration says otherwise."""

app = modal.App()
options: dict[str, Any] = {
    "image": modal.Image.debian_slim().add_local_python_source("tests", "web", "infra"),
    "secrets": [modal.Secret.from_dict({name: os.environ[name] for name in os.environ if name.startswith(PASSED_ON)})],
    "max_containers": 1,
    "scaledown_window": 600,
}


@app.function(name="Bare", **options)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def bare() -> ASGIApp:
    return bare_relay.create()


@app.function(name="Ours", **options)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def ours() -> ASGIApp:
    return our_service.create()


@app.function(name="Coalescing", **options)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def coalescing() -> ASGIApp:
    return our_service.create(coalesce_seconds=COALESCE_SECONDS)
