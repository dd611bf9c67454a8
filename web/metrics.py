"""What this process counts. One object for each application; nothing of it is global.

What there is to be counted, and what its labels may be, is in `infra.metric_families`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from infra.metric_families import FAMILIES, family
from infra.metric_snapshots import Shape, total, units
from infra.usage import COST_UNIT
from web.tallies import Counters, Distributions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from infra.metric_snapshots import Snapshot
    from web.admission import Place
    from web.dialects.request import Kind

OTHER = "other"
"""A route or method that is none of the service's."""
UNKNOWN = "unknown"
"""A model that is not configured."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LEFT = 499
"""The status that stands for none, since the caller left before there was one."""
STATUSES = frozenset(map(int, HTTPStatus)) | {LEFT}
PLACES: dict[str, Place] = {
    "requests_running": "running", "requests_waiting": "waiting", "requests_waiting_for_boot": "booting",
}  # fmt: skip
"""Gauge -> where the requests are that it counts."""


class Presence(Protocol):
    """Where the requests for one model are."""

    present: dict[Place, int]


class ModelMetrics:
    """The numbers of one model and one kind of answer, looked up once and not for every request."""

    def __init__(self, metrics: Metrics, model: str, kind: Kind) -> None:
        requests, tokens, errors, duration, rate = (
            ("chat_completions_requests_total", "chat_generated_tokens_total", "chat_completions_errors_total",
             "chat_inference_duration_seconds", "chat_tokens_per_second")
            if kind == "chat" else
            ("completions_requests_total", "completions_tokens_total", "completions_errors_total",
             "completions_duration_seconds", "completions_tokens_per_second")
        )  # fmt: skip
        counter, distribution = metrics.counters, metrics.distributions
        self.requests = counter[requests].of(model)
        self.tokens = counter[tokens].of(model)
        self.duration = distribution[duration].of(model)
        self.rate = distribution[rate].of(model)
        self.cancelled = counter["requests_cancelled_total"].of(model)
        self.prompt_tokens = counter["prompt_tokens_total"].of(model)
        self.generation_tokens = counter["generation_tokens_total"].of(model)
        self.cached_tokens = counter["cached_tokens_total"].of(model)
        self.prefix_hits = counter["prefix_cache_hits_total"].of(model)
        self.first_token = distribution["time_to_first_token_seconds"].of(model)
        self.gaps = distribution["inter_token_latency_seconds"].of(model)
        self.latency = distribution["e2e_request_latency_seconds"].of(model)
        self.cold_requests = counter["cold_start_requests_total"].of(model)
        self.cold_starts = distribution["cold_start_seconds"].of(model)
        self._errors = counter[errors]
        self._model = model

    def error(self, status: int) -> None:
        """An answer ended in an error that is told with this status, or would be if nothing had been sent before."""
        self._errors.of(self._model, _status(status)).value += 1


class Metrics:
    """Counters and distributions by the names of their families."""

    def __init__(self, more: Callable[[], Snapshot] | None = None) -> None:
        """`more`: what else is counted in this process."""
        self._more = more
        counted = [one for one in FAMILIES if one.origin in ("web", "any")]
        self.counters = {one.name: Counters() for one in counted if one.kind == "counter"}
        self.distributions = {one.name: Distributions(one.bounds) for one in counted if one.kind == "histogram"}
        self._of: dict[tuple[str, Kind], ModelMetrics] = {}
        self._presences: Mapping[str, Presence] = {}
        self._began: float | None = None

    def of(self, model: str, kind: Kind) -> ModelMetrics:
        """`model`: a configured model's id, or `UNKNOWN`."""
        found = self._of.get((model, kind))
        if found is None:
            found = self._of[model, kind] = ModelMetrics(self, model, kind)
        return found

    def rate_limited(self, *, allowed: bool) -> None:
        """The rate limit has decided on a request."""
        self.counters["rate_limit_allowed_total" if allowed else "rate_limit_blocked_total"].of().value += 1

    def answered(self, route: str | None, method: str, status: int) -> None:
        """An HTTP request has been answered. `route`: its template; None: there is no such route."""
        known = method if method in METHODS else OTHER
        self.counters["http_requests_total"].of(route or OTHER, known, _status(status)).value += 1
        if route is not None and (name := _counter_of(route, method)) is not None:
            self.counters[name].of().value += 1

    def charged(self, model: str, cost: int, seconds: float) -> None:
        """A request for a configured model has cost so many of `COST_UNIT`, and had an engine for so long."""
        self.counters["usage_cost_total"].of(model).value += cost / COST_UNIT
        self.counters["usage_engine_seconds_total"].of(model).value += seconds

    def publish_failed(self) -> None:
        """What was counted could not be written down."""
        self.counters["metrics_publish_errors_total"].of().value += 1

    def watch(self, presences: Mapping[str, Presence]) -> None:
        """Tell gauges too: model id -> where its requests are, read whenever a snapshot is made."""
        self._presences = presences

    def begin(self, now: float) -> None:
        """This container begins to serve. `now`: monotonic seconds."""
        self._began = now
        self.counters["web_container_starts_total"].of().value = 1

    def snapshot(self, now: float) -> Snapshot:
        """All that was counted until now."""
        told: Snapshot = {}
        if self._began is not None:
            self.counters["web_container_seconds_total"].of().value = now - self._began
            told[Shape.of(family("web_containers"))] = {(): (units(1),)}
        for name, counters in self.counters.items():
            told[Shape.of(family(name))] = counters.numbers()
        for name, distributions in self.distributions.items():
            told[Shape.of(family(name))] = distributions.numbers()
        for name, place in PLACES.items():
            told[Shape.of(family(name))] = {
                (model,): (units(presence.present[place]),) for model, presence in self._presences.items()
            }
        return told if self._more is None else total([told, self._more()])


def _status(status: int) -> str:
    return str(status) if status in STATUSES else OTHER


def _counter_of(route: str, method: str) -> str | None:
    """The counter that a route has beside `http_requests_total`."""
    if route.startswith("/chat/history/"):
        return "history_requests_total"
    if method != "GET":
        return None
    match route.removeprefix("/v1"):
        case "/health":
            return "health_check_requests_total"
        case "/readiness":
            return "readiness_check_requests_total"
        case "/models":
            return "models_list_requests_total"
        case rest if rest.startswith("/models/{"):
            return "model_info_requests_total"
    return None
