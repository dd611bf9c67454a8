"""The parts that the application is built from. Whoever starts it gives them; nothing here has a global."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from web.clock import Clock, RealClock
from web.sightings import Sightings

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.key_store import KeyStore
    from infra.metric_snapshots import Snapshot
    from infra.settings import Settings
    from web.answer_guard import AnswerGuard
    from web.batches import Storage
    from web.draining import Draining
    from web.engines import EngineDirectory
    from web.guards import PromptGuard
    from web.limits import Limiter
    from web.publishing import MetricsStore
    from web.sessions import SessionStore
    from web.states import EngineControl
    from web.stored import ResponseStore
    from web.tracing import Tracing
    from web.usage import UsageStore


@dataclass(frozen=True, kw_only=True)
class Services:
    """`coalesce_seconds`: events that come closer together than this are sent as one, never the first; 0: each as it
    comes. Worth it where a write is dear (Modal's bridge), and not under uvicorn. `silence_seconds`: how long an
    engine that has taken a request may show no sign of life. `control`: what runs the engines, where it can be asked.
    `keys`: API keys beside those of the settings.
    `sightings`: what this process's requests see of the engines. `draining`: given by whoever runs the server and
    drains it; else the application has one that never begins. `engine_containers`: how many engines of one model there
    can be at most; None: as many as the model's scaling allows. `limiter`, `prompt_guard`, `answer_guard`: in place of
    those that the settings ask for. `behind_proxy`: only a proxy can connect (Modal's, to a Server), so who asks is
    what that says in `X-Forwarded-For`. `storage`: of files and batches; None: in memory. `usage`: where usage is
    written down; None: in memory. `metrics`: where containers put theirs together; None: each tells its own.
    `counted`: what else this process counts, and its application's metrics are to tell. `tracing`:
    what records traces; the application opens and closes it."""

    settings: Settings
    engines: EngineDirectory
    clock: Clock = field(default_factory=RealClock)
    control: EngineControl | None = None
    sightings: Sightings = field(default_factory=Sightings)
    coalesce_seconds: float = 0.0
    silence_seconds: float = 300.0
    draining: Draining | None = None
    sessions: SessionStore | None = None
    keys: KeyStore | None = None
    storage: Storage | None = None
    responses: ResponseStore | None = None
    engine_containers: int | None = None
    limiter: Limiter | None = None
    prompt_guard: PromptGuard | None = None
    answer_guard: AnswerGuard | None = None
    behind_proxy: bool = False
    usage: UsageStore | None = None
    metrics: MetricsStore | None = None
    counted: Callable[[], Snapshot] | None = None
    tracing: Tracing | None = None
