"""The ASGI application, built from the parts it is given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.access import AccessLog
from web.auth import Authentication
from web.batch_service import BatchService
from web.batch_store import in_memory
from web.conversations import Conversations
from web.dialects.schemas import complete_schemas
from web.draining import Doors, Draining
from web.edge import LIMITED_PATHS, RequestLimits
from web.errors import RouteNotFound
from web.extensions import REFUSED
from web.files import Files
from web.gate import Gate
from web.generation import Generator
from web.known_keys import KnownKeys
from web.lazily import Lazily
from web.lifespan import Lifespan
from web.limits import MemoryLimiter
from web.metrics import Metrics
from web.middleware import DirectRoutes, Errors, RequestIdentity, cross_origin
from web.parts import Parts
from web.plain_exchange import PlainExchanges
from web.publishing import Publisher
from web.relay import Relay
from web.response_turns import ResponseTurns
from web.routes import generation, service
from web.routes.later import later
from web.routes.socket import ROUTE as SOCKET
from web.routes.socket import SocketEndpoint
from web.services import Services
from web.session_store import SessionsInMemory
from web.states import ModelStates
from web.stored_memory import ResponsesInMemory
from web.uptime import HEALTH, Uptime
from web.usage import Meter

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


__all__ = ["Services", "create_application"]


def create_application(services: Services, *, whole: bool = False) -> ASGIApp:
    """The whole HTTP face. Opens nothing until it serves: a memory snapshot may hold it.

    Its lifespan's shutdown closes the connections to the engines. What the first request may have no use for (FastAPI
    with all its routes, other dialects than OpenAI's and the service's) is loaded when it is first asked for, or now if
    `whole`.
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
    others = later(services, generator, exchanges, turns)
    direct: dict[str, ASGIApp] = {
        **generation.endpoints(generator, max_body_bytes=services.settings.web.max_body_bytes), **others,
    }  # fmt: skip
    lines = Errors(DirectRoutes(_nothing, direct), clock=services.clock)
    parts = Parts(
        services=services, states=states, relay=relay, exchanges=exchanges, metrics=metrics, draining=draining,
        published=None if metrics is None else published_of(services, metrics), conversations=conversations,
        batches=BatchService(services, storage, files, lines), known=known, meter=meter, turns=turns, limiter=limiter,
        uptime=Uptime(services.clock),
    )  # fmt: skip
    rest = Lazily(lambda: _routed(parts))
    if whole:
        for part in (*others.values(), rest):
            part.make()
        complete_schemas()
    direct |= service.endpoints(services, generator, conversations, openai=direct)
    sockets = {SOCKET: SocketEndpoint(services, generator, conversations, draining)}
    app: ASGIApp = DirectRoutes(rest, direct, gets={HEALTH: parts.uptime}, sockets=sockets)
    app = RequestLimits(app, limiter, {*direct, *LIMITED_PATHS})
    app = Authentication(app, services.settings.security, clock=services.clock, known=known,
                         behind_proxy=services.behind_proxy)  # fmt: skip
    app = Doors(app, draining)
    app = Errors(app, clock=services.clock)
    access = AccessLog(services)
    answered = None if metrics is None else metrics.answered
    identity = RequestIdentity(app, clock=services.clock, answered=answered, access=access)
    app = cross_origin(identity, origins=services.settings.security.allowed_origins)
    return Lifespan(app, parts.at_work, state={REFUSED: identity.refused})


def _routed(parts: Parts) -> ASGIApp:
    from web.routed import routed

    return routed(parts)


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
