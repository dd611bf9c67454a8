"""The web endpoint's container, in its two forms: a web function, or a Modal Server that runs uvicorn itself.

`app.py` registers a subclass of either that knows the engines' Servers by model id.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, ClassVar

import modal

from functions.batches import SpawnedBatches
from functions.control import ServerControl
from functions.directory import ServerDirectory
from functions.garbage import spare_the_application
from functions.logs import configure_logging
from functions.shared import metrics_store, shared_state
from functions.state import (
    file_storage,
    key_store,
    limiter,
    response_store,
    session_store,
    tracing_of,
    usage_store,
)
from infra.configuration import load_settings
from web.application import create_application
from web.clock import RealClock
from web.draining import Draining
from web.services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp

    from infra.settings import Settings
    from web.batches import BatchRunner

SNAPSHOT = "MODAL_ENABLE_SNAP_RESTORE"
"""The variable by which Modal's runtime knows, as "1", that this container becomes a memory snapshot."""
STARTUP_SECONDS = 60
"""How long that form may take until it listens."""
LONGEST_GRACE = 3600
"""Seconds that Modal lets the requests of a Server's container end for, at most."""


def services_of(
    settings: Settings,
    servers: Mapping[str, modal.Server],
    *,
    coalesce_seconds: float,
    draining: Draining | None = None,
    behind_proxy: bool = False,
    runner: BatchRunner | None = None,
) -> Services:
    """The parts of the application on Modal. `servers`: model id -> its engine's Server. `runner`: of batches; None:
    each is worked on by a container of its own."""
    urls: dict[str, str] = {}
    for model_id, server in servers.items():
        url = server.get_url()
        if url is None:
            raise RuntimeError(f"Modal gives no address for the Server of model {model_id!r}")
        urls[model_id] = url
    clock, state = RealClock(), shared_state(settings)
    return Services(
        settings=settings, engines=ServerDirectory(settings, urls), clock=clock,
        control=ServerControl(settings, servers, clock=clock), coalesce_seconds=coalesce_seconds, draining=draining,
        behind_proxy=behind_proxy, sessions=session_store(state, settings, clock), keys=key_store(state, clock),
        storage=file_storage(state, clock, runner=runner or SpawnedBatches(settings)),
        usage=usage_store(state, settings), metrics=metrics_store(state, settings),
        tracing=tracing_of(settings),
        responses=response_store(state, clock),
        limiter=limiter(state, settings, clock),
    )  # fmt: skip


class Endpoint:
    """The web function: builds the application before the memory snapshot. `app.py` hands `web` to Modal, and says at
    which domains."""

    servers: ClassVar[Mapping[str, modal.Server]] = {}

    @modal.enter(snap=True)
    def build(self) -> None:
        settings = load_settings()
        configure_logging(settings)
        services = services_of(settings, self.servers, coalesce_seconds=settings.web.coalesce_seconds)
        # A snapshot is to hold all of it. Without one, the first request is not to wait for what it has no use for.
        self.application = create_application(services, whole=os.environ.get(SNAPSHOT) == "1")
        spare_the_application()

    def web(self) -> ASGIApp:
        return self.application


class ServerEndpoint:
    """The same application on a port of its container: no bridge between uvicorn and the platform's proxy, so nothing
    is gained by holding tokens back, and no answer is too late for a redirect."""

    servers: ClassVar[Mapping[str, modal.Server]] = {}

    @modal.enter()
    def start(self) -> None:
        # Not at import: the web function, which starts from the same file, has no use for uvicorn.
        from functions.listening import Listening

        settings = load_settings()
        configure_logging(settings)
        draining = Draining(clock=RealClock(), grace=settings.web.drain_seconds)
        services = services_of(settings, self.servers, coalesce_seconds=0.0, draining=draining, behind_proxy=True)
        self.server = Listening(
            create_application(services, whole=True), draining, host="0.0.0.0", port=settings.deploy.first_port,  # noqa: S104
            write_timeout=settings.web.write_timeout, receive_timeout=settings.web.receive_timeout,
        )  # fmt: skip
        self.thread = threading.Thread(target=self.server.run, name="uvicorn")
        self.thread.start()

    @modal.exit()
    def stop(self) -> None:
        self.server.leave()
        self.thread.join()
