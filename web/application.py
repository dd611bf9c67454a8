"""The ASGI application, built from the parts it is given."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from fastapi import FastAPI

from web.access import AccessLog
from web.auth import Authentication
from web.batch_service import BatchService
from web.batch_store import in_memory
from web.conversations import Conversations
from web.draining import Doors, Draining
from web.edge import LIMITED_PATHS, RequestLimits
from web.errors import RouteNotFound
from web.files import Files
from web.gate import Gate
from web.generation import Generator
from web.known_keys import KnownKeys
from web.limits import MemoryLimiter
from web.metrics import Metrics
from web.middleware import DirectRoutes, Errors, RequestIdentity, cross_origin
from web.openapi import describe
from web.plain_exchange import PlainExchanges
from web.publishing import Publisher
from web.refusals import Heads, tell_errors
from web.relay import Relay
from web.response_turns import ResponseTurns
from web.routes import (
    admin_keys,
    embeddings,
    generation,
    health,
    messages,
    models,
    page,
    responses,
    service,
    sessions,
    tokenize,
    usage,
    v1_conversations,
    v1_sessions,
)
from web.routes import batches as batches_route
from web.routes import files as files_route
from web.routes import metrics as metrics_route
from web.routes.socket import ROUTE as SOCKET
from web.routes.socket import SocketEndpoint
from web.services import Services
from web.session_store import SessionsInMemory
from web.states import ModelStates
from web.stored_memory import ResponsesInMemory
from web.tokens import Tokens
from web.usage import Meter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from web.limits import Limiter


__all__ = ["Services", "create_application"]


def create_application(services: Services) -> ASGIApp:
    """The whole HTTP face. Opens nothing until it serves: a memory snapshot may hold it.

    Its lifespan's shutdown closes the connections to the engines.
    """
    states = ModelStates(
        services.settings.models, control=services.control, sightings=services.sightings, clock=services.clock
    )
    relay = Relay(services, states=states)
    exchanges = PlainExchanges(services)
    metrics = Metrics(services.counted) if services.settings.observability.enable_metrics else None
    draining = services.draining or Draining(clock=services.clock, grace=services.settings.web.drain_seconds)
    limiter = services.limiter
    if limiter is None:
        limiter = MemoryLimiter(services.settings.limits, services.clock)
    meter = Meter.of(services)
    if metrics is not None:
        limiter.watch(lambda allowed: metrics.rate_limited(allowed=allowed))
        meter.watch(metrics.charged)
    gate = Gate(services, limiter, meter=meter)
    generator = Generator(relay, services, gate=gate, metrics=metrics, draining=draining, meter=meter)
    most = services.settings.web.max_body_bytes
    store = services.sessions or SessionsInMemory(clock=services.clock)
    conversations = Conversations(store, settings=services.settings, clock=services.clock)
    storage = services.storage or in_memory()
    files = Files(storage.files, storage.objects, settings=services.settings.files, clock=services.clock)
    known = None
    if services.settings.security.enable_auth and services.keys is not None:
        known = KnownKeys(services.keys, clock=services.clock)
    turns = ResponseTurns(
        services.responses or ResponsesInMemory(clock=services.clock), settings=services.settings, clock=services.clock
    )
    tokens = Tokens(exchanges)
    direct = {
        **generation.endpoints(generator, max_body_bytes=most),
        **embeddings.endpoints(services, generator, exchanges),
        **tokenize.endpoints(services, generator, tokens),
        **messages.endpoints(services, generator, tokens),
        **responses.endpoints(services, generator, tokens, turns),
    }
    lines = Errors(DirectRoutes(_nothing, direct), clock=services.clock)
    batches = BatchService(services, storage, files, lines)
    app: ASGIApp = Heads(
        _fastapi(
            services, relay, states, exchanges, metrics, draining, conversations, batches, known, meter, turns, limiter
        )
    )  # fmt: skip
    direct |= service.endpoints(services, generator, conversations, openai=direct)
    sockets = {SOCKET: SocketEndpoint(services, generator, conversations, draining)}
    app = DirectRoutes(app, direct, sockets=sockets)
    app = RequestLimits(app, limiter, {*direct, *LIMITED_PATHS})
    app = Authentication(app, services.settings.security, clock=services.clock, known=known,
                         behind_proxy=services.behind_proxy)  # fmt: skip
    app = Doors(app, draining)
    app = Errors(app, clock=services.clock)
    access = AccessLog(services)
    answered = None if metrics is None else metrics.answered
    app = RequestIdentity(app, clock=services.clock, answered=answered, access=access)
    return cross_origin(app, origins=services.settings.security.allowed_origins)


def _fastapi(
    services: Services, relay: Relay, states: ModelStates, exchanges: PlainExchanges, metrics: Metrics | None,
    draining: Draining, conversations: Conversations, batches: BatchService, known: KnownKeys | None, meter: Meter,
    turns: ResponseTurns, limiter: Limiter,
) -> FastAPI:  # fmt: skip
    """Every route that is not hot, and the OpenAPI document of all."""
    uptime = health.Uptime(services.clock)
    published = None if metrics is None else published_of(services, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        uptime.begin()
        if services.tracing is not None:
            services.tracing.open()
        if metrics is not None:
            metrics.begin(services.clock.monotonic())
        if published is not None:
            published.begin()
        batches.begin()
        yield
        await batches.close()
        await conversations.close()
        await limiter.close()
        if known is not None:
            await known.close()
        await meter.close()
        await turns.close()
        await relay.close()
        await exchanges.close()
        await states.close()
        if services.control is not None:
            await services.control.close()
        if published is not None:
            await published.close()  # last: all that has ended by now is in it
        if services.tracing is not None:
            await asyncio.to_thread(services.tracing.close)

    api = FastAPI(
        title="LLM inference service",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
        # It would tell what requests hold, and cost time, wherever somebody has set OpenTelemetry up in this process.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    tell_errors(api)
    describe(api, keys=services.settings.security.enable_auth)
    api.include_router(responses.router(turns))
    api.include_router(v1_conversations.router(turns, max_body_bytes=services.settings.web.max_body_bytes))
    api.include_router(models.router(services, states))
    api.include_router(sessions.router(conversations))
    api.include_router(v1_sessions.router(conversations))
    api.include_router(admin_keys.router(services, known))
    api.include_router(files_route.router(batches.files, settings=services.settings.files, clock=services.clock))
    api.include_router(batches_route.router(batches.requests))
    api.include_router(usage.router(services, meter))
    api.include_router(health.router(services, states, uptime, draining))
    if metrics is not None:
        api.include_router(metrics_route.router(services, metrics, published))
    api.include_router(page.router())
    return api


def published_of(services: Services, metrics: Metrics) -> Publisher | None:
    """What puts this container's metrics together with others'; None where it tells its own."""
    if services.metrics is None:
        return None
    return Publisher(
        services.metrics, lambda: metrics.snapshot(services.clock.monotonic()), clock=services.clock,
        interval=services.settings.metrics.publish_interval, folds=True, failed=metrics.publish_failed,
    )  # fmt: skip


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
    raise RouteNotFound(scope["method"], scope["path"])
