"""What the application is made of, once, and how it begins and ends."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
        yield
        await self.batches.close()
        await self.conversations.close()
        await self.limiter.close()
        if self.known is not None:
            await self.known.close()
        await self.meter.close()
        await self.turns.close()
        await self.relay.close()
        await self.exchanges.close()
        await self.states.close()
        if services.control is not None:
            await services.control.close()
        if self.published is not None:
            await self.published.close()  # last: all that has ended by now is in it
        if services.tracing is not None:
            await asyncio.to_thread(services.tracing.close)
