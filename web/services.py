"""The parts that the application is built from. Whoever starts it gives them; nothing here has a global."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from web.clock import Clock, RealClock

if TYPE_CHECKING:
    from infra.settings import Settings
    from web.engines import EngineDirectory


@dataclass(frozen=True, kw_only=True)
class Services:
    """`coalesce_seconds`: events that come closer together than this are sent as one, never the first; 0: each as it
    comes. Worth it where a write is dear (Modal's bridge), and not under uvicorn. `silence_seconds`: how long an
    engine that has taken a request may show no sign of life."""

    settings: Settings
    engines: EngineDirectory
    clock: Clock = field(default_factory=RealClock)
    coalesce_seconds: float = 0.0
    silence_seconds: float = 300.0
