"""The service without Modal: the same application and the same engines, in processes of this machine.

    python -m functions.standalone          # serves at server.host and server.port, until SIGTERM or Ctrl-C
    python -m functions.standalone --check  # prints the settings that it would serve with

Engines start when their model is first asked for (with `min_containers` above 0, at once) and stop when they have been
idle for the model's `scaledown_window`. `deploy.target` is "local" here unless the configuration says otherwise: each
model is served by its `local_engine`. With "modal" it is the engine that the model has in the cloud (SGLang on `cuda`),
where that is installed. Sessions are kept in memory here unless `state.kind` says "aws".
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING

import uvloop

from functions.jobs import run_for_ever
from functions.listening import ListenError, Listening
from functions.local_engines import LocalEngines
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
from infra.configuration import ConfigurationError, load_settings, refuse_locked_out
from infra.key_store import KeysInMemory
from infra.local import on_this_machine
from infra.model_files import refuse_missing_files
from infra.refusals import refuse_unprotected_host
from web.application import create_application
from web.clock import RealClock
from web.draining import Draining
from web.services import Services
from web.sightings import Sightings

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from infra.settings import Settings
    from web.clock import Clock

log = logging.getLogger(__name__)


def settings_here() -> Settings:
    """The settings of the service on this machine. Raises ConfigurationError."""
    settings = on_this_machine(load_settings())
    refuse_locked_out(settings)
    refuse_unprotected_host(settings)
    refuse_missing_files(settings)
    return settings


class _Announcing(Listening):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(f"Ready: {self.url}", flush=True)


async def serve(settings: Settings, *, clock: Clock) -> bool:
    """Serve until a signal says stop, drain, and stop the engines. Whether it served. Raises ListenError."""
    sightings = Sightings()
    draining = Draining(clock=clock, grace=settings.web.drain_seconds)
    engines = LocalEngines(settings, sightings=sightings, clock=clock)
    state = shared_state(settings)
    services = Services(
        settings=settings, engines=engines, control=engines, sightings=sightings, clock=clock, draining=draining,
        engine_containers=1, sessions=session_store(state, settings, clock), storage=file_storage(state, clock),
        keys=key_store(state, clock) or KeysInMemory(),  # this process is the only one
        usage=usage_store(state, settings), metrics=metrics_store(state, settings), counted=engines.metrics,
        tracing=tracing_of(settings),
        responses=response_store(state, clock),
        limiter=limiter(state, settings, clock),
    )  # fmt: skip
    where = settings.server
    server = _Announcing(
        create_application(services, whole=True), draining, host=where.host, port=where.port,
        write_timeout=settings.web.write_timeout, receive_timeout=settings.web.receive_timeout,
    )  # fmt: skip
    tasks = [] if state is None else [asyncio.create_task(run_for_ever(settings, state, clock=clock), name="jobs")]
    if settings.observability.enable_metrics:
        looking = engines.look(every=settings.metrics.publish_interval, clock=clock)
        tasks.append(asyncio.create_task(looking, name="metrics of engines"))
    try:
        engines.start()
        await server.serve()
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await engines.close()
    log.info("the service has ended")
    return server.started


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m functions.standalone", description="Serve without Modal.")
    parser.add_argument("--check", action="store_true", help="print the resolved settings, without secrets, and exit")
    options = parser.parse_args(arguments)
    try:
        settings = settings_here()
        if options.check:
            with contextlib.suppress(BrokenPipeError):  # whoever reads it has seen enough
                print(settings.without_secrets().model_dump_json(indent=2), flush=True)
                return 0
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or it is tried again at the exit
            return 0
        configure_logging(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            served = runner.run(serve(settings, clock=RealClock()))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    except ListenError as error:
        print(f"{error}; server.host and server.port (SERVER_HOST, SERVER_PORT) say where", file=sys.stderr)
        return 2
    return 0 if served else 1


if __name__ == "__main__":
    sys.exit(main())
