"""What the application is made of, once, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from web.batch_service import BatchService
    from web.conversations import Conversations
    from web.draining import Draining
    from web.known_keys import KnownKeys
    from web.limits import Limiter
    from web.metrics import Metrics
    from web.plain_exchange import PlainExchanges
    from web.publishing import Publisher
    from web.relay import Relay
    from web.response_turns import ResponseTurns
    from web.services import Services
    from web.states import ModelStates
    from web.uptime import Uptime
    from web.usage import Meter


@dataclass(frozen=True, kw_only=True)
class Parts:
    """`known`: None where no keys are asked for beside the configuration's; `metrics`: None where none are counted;
    `published`: None where each container tells its own."""

    services: Services
    states: ModelStates
    relay: Relay
    exchanges: PlainExchanges
    metrics: Metrics | None
    published: Publisher | None
    draining: Draining
    conversations: Conversations
    batches: BatchService
    known: KnownKeys | None
    meter: Meter
    turns: ResponseTurns
    limiter: Limiter
    uptime: Uptime

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Around all requests."""
        services = self.services
        self.uptime.begin()
        if services.tracing is not None:
            services.tracing.open()
        if self.metrics is not None:
            self.metrics.begin(services.clock.monotonic())
        if self.published is not None:
            self.published.begin()
        self.batches.begin()
        async with contextlib.AsyncExitStack() as ends:
            for end in reversed(self._ends()):
                ends.push_async_callback(end)
            yield

    def _ends(self) -> list[Callable[[], Awaitable[object]]]:
        """What is done at the end, in this order, also when one of it fails."""
        services, tracing = self.services, self.services.tracing
        ends: list[Callable[[], Awaitable[object]] | None] = [
            self.batches.close,
            self.conversations.close,
            self.limiter.close,
            self.known.close if self.known is not None else None,
            self.meter.close,
            self.turns.close,
            self.relay.close,
            self.exchanges.close,
            self.states.close,
            services.control.close if services.control is not None else None,
            self.published.close if self.published is not None else None,  # all that has ended by now is in it
            (lambda: asyncio.to_thread(tracing.close)) if tracing is not None else None,
        ]
        return [end for end in ends if end is not None]
