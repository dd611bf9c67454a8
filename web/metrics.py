"""What the service counts. One registry for each application; nothing of it is global.

Labels are bounded: a configured model's id or `other`, a route's template or `other`, a method that HTTP knows or
`other`, a status. Every family can be added up over containers: counters, distributions, and gauges that count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily

from web.tallies import Counters, Distributions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from prometheus_client.core import Metric

    from web.admission import Place
    from web.dialects.request import Kind

OTHER = "other"
GAPS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)
"""Seconds between tokens."""
WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Seconds to a first token, of a whole answer, of a boot."""
RATES = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
"""Tokens a second."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
LEFT = 499
"""The status that stands for none, since the caller left before there was one."""

PLAIN_COUNTERS = {
    "health_check_requests": "GET /health",
    "readiness_check_requests": "GET /readiness",
    "models_list_requests": "GET /models and /v1/models",
    "model_info_requests": "GET /models/… and /v1/models/…",
    "history_requests": "Requests of any method to /chat/history/…",
    "rate_limit_allowed": "Requests that the rate limit let pass",
    "rate_limit_blocked": "Requests that the rate limit refused",
}
MODEL_COUNTERS = {
    "requests_cancelled": "Answers whose caller left before the end",
    "prompt_tokens": "Tokens of prompts, cached ones included",
    "generation_tokens": "Tokens of answers of either kind",
    "cached_tokens": "Tokens of prompts that were found in the prefix cache",
    "prefix_cache_hits": "Requests of whose prompt some was found in the prefix cache",
    "chat_completions_requests": "Requests for chat answers, in any dialect",
    "chat_generated_tokens": "Tokens of chat answers",
    "completions_requests": "Requests for text completions, in any dialect",
    "completions_tokens": "Tokens of text completions",
}
ERROR_COUNTERS = {
    "chat_completions_errors": "Chat answers that ended in an error, by its HTTP status",
    "completions_errors": "Text completions that ended in an error, by its HTTP status",
}
DISTRIBUTIONS = {
    "time_to_first_token_seconds": ("From a request's coming, queue and boot included, to its first token", WAITS),
    "inter_token_latency_seconds": ("Between two tokens of one answer", GAPS),
    "e2e_request_latency_seconds": ("From a request's coming to the end of its complete answer", WAITS),
    "engine_boot_seconds": ("From the first request that found no engine to the first that found one", WAITS),
    "chat_inference_duration_seconds": ("From an engine's taking a chat request to its complete answer", WAITS),
    "chat_tokens_per_second": ("Of each complete chat answer, after its first token", RATES),
    "completions_duration_seconds": ("From an engine's taking a text request to its complete answer", WAITS),
    "completions_tokens_per_second": ("Of each complete text completion, after its first token", RATES),
}
GAUGES: dict[str, tuple[Place, str]] = {
    "requests_running": ("running", "Requests that an engine has taken and not finished"),
    "requests_waiting": ("waiting", "Requests that wait for a place, or for an engine to take them"),
    "requests_waiting_for_boot": ("booting", "Requests that found no engine and wait for it to boot"),
}


class Presence(Protocol):
    """Where the requests for one model are."""

    present: dict[Place, int]


class ModelMetrics:
    """The numbers of one model and one kind of answer, looked up once and not for every request."""

    def __init__(self, metrics: Metrics, model: str, kind: Kind) -> None:
        requests, tokens, errors, duration, rate = (
            ("chat_completions_requests", "chat_generated_tokens", "chat_completions_errors",
             "chat_inference_duration_seconds", "chat_tokens_per_second")
            if kind == "chat" else
            ("completions_requests", "completions_tokens", "completions_errors",
             "completions_duration_seconds", "completions_tokens_per_second")
        )  # fmt: skip
        counter, distribution = metrics.counters, metrics.distributions
        self.requests = counter[requests].of(model)
        self.tokens = counter[tokens].of(model)
        self.duration = distribution[duration].of(model)
        self.rate = distribution[rate].of(model)
        self.cancelled = counter["requests_cancelled"].of(model)
        self.prompt_tokens = counter["prompt_tokens"].of(model)
        self.generation_tokens = counter["generation_tokens"].of(model)
        self.cached_tokens = counter["cached_tokens"].of(model)
        self.prefix_hits = counter["prefix_cache_hits"].of(model)
        self.first_token = distribution["time_to_first_token_seconds"].of(model)
        self.gaps = distribution["inter_token_latency_seconds"].of(model)
        self.latency = distribution["e2e_request_latency_seconds"].of(model)
        self.boots = distribution["engine_boot_seconds"].of(model)
        self._errors = counter[errors]
        self._model = model

    def error(self, status: int) -> None:
        """An answer ended in an error that is told with this status, or would be if nothing had been sent before."""
        self._errors.of(self._model, str(status)).value += 1


class Metrics:
    """The registry, and what is in it by name: counters without their `_total`, and distributions."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.counters: dict[str, Counters] = {}
        self.distributions: dict[str, Distributions] = {}
        self._of: dict[tuple[str, Kind], ModelMetrics] = {}
        self._count("http_requests", "HTTP requests by route, method and status", "route", "method", "status")
        for name, text in PLAIN_COUNTERS.items():
            self._count(name, text)
        for name, text in MODEL_COUNTERS.items():
            self._count(name, text, "model")
        for name, text in ERROR_COUNTERS.items():
            self._count(name, text, "model", "status")
        for name, (text, bounds) in DISTRIBUTIONS.items():
            self.distributions[name] = distributions = Distributions(name, text, "model", bounds)
            self.registry.register(distributions)

    def of(self, model: str, kind: Kind) -> ModelMetrics:
        """`model`: a configured model's id, or `OTHER`."""
        found = self._of.get((model, kind))
        if found is None:
            found = self._of[model, kind] = ModelMetrics(self, model, kind)
        return found

    def rate_limited(self, *, allowed: bool) -> None:
        """The rate limit has decided on a request."""
        self.counters["rate_limit_allowed" if allowed else "rate_limit_blocked"].of().value += 1

    def answered(self, route: str | None, method: str, status: int) -> None:
        """An HTTP request has been answered. `route`: its template; None: there is no such route."""
        known = method if method in METHODS else OTHER
        self.counters["http_requests"].of(route or OTHER, known, str(status)).value += 1
        if route is not None and (name := _counter_of(route, method)) is not None:
            self.counters[name].of().value += 1

    def watch(self, presences: Mapping[str, Presence]) -> None:
        """Serve gauges: model id -> where its requests are, read whenever the registry is."""
        self.registry.register(_Gauges(presences))

    def _count(self, name: str, text: str, *labels: str) -> None:
        self.counters[name] = counters = Counters(name, text, labels)
        self.registry.register(counters)


class _Gauges:
    def __init__(self, presences: Mapping[str, Presence]) -> None:
        self._presences = presences

    def collect(self) -> Iterator[Metric]:
        for name, (place, text) in GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=["model"])
            for model, presence in self._presences.items():
                family.add_metric([model], presence.present[place])
            yield family


def _counter_of(route: str, method: str) -> str | None:
    """The counter that a route has beside `http_requests_total`."""
    if route.startswith("/chat/history/"):
        return "history_requests"
    if method != "GET":
        return None
    match route.removeprefix("/v1"):
        case "/health":
            return "health_check_requests"
        case "/readiness":
            return "readiness_check_requests"
        case "/models":
            return "models_list_requests"
        case rest if rest.startswith("/models/{"):
            return "model_info_requests"
    return None
