"""Every metric of the service, in one table: name, kind, labels, meaning and buckets.

What counts them, what shows them, `docs/metrics.md`, dashboards and alert rules are all held to `FAMILIES`. Each family
can be added up over containers: counters, distributions, and gauges that count things. So there are no ratios: a
dashboard divides one sum by another.

Labels are bounded. `model`: a configured model's id, or `unknown`; `route`: a route's template, or `other`; `method`:
one that HTTP knows, or `other`; `status`: an HTTP status; `phase`: one of `functions.boot.PHASES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Origin = Literal["web", "engine", "any"]
"""Which containers count it: those of the web endpoint, those of engines, or both."""

GAPS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 10.0)
"""Seconds between tokens."""
WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Seconds to a first token, of a whole answer, of a boot."""
RATES = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0, 300.0, 500.0, 1000.0)
"""Tokens a second."""
ENGINE_GAPS = (
    0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 1.0, 2.0, 4.0, 8.0
)  # fmt: skip
"""Some of SGLang's own bounds, so that what falls between two of these is known exactly."""
ENGINE_WAITS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0, 400.0)
"""Likewise."""


@dataclass(frozen=True)
class Family:
    """One metric. `name`: as it is scraped, a counter's with its `_total`; `bounds`: a histogram's, the largest value
    of each bucket but the last, which takes everything."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    text: str
    bounds: tuple[float, ...] = ()
    origin: Origin = "web"


MODEL = ("model",)
BY_STATUS = ("model", "status")

_HTTP = (
    Family("http_requests_total", "counter", ("route", "method", "status"),
           "HTTP requests by route, method and status; 499: the caller left before there was one"),
    Family("health_check_requests_total", "counter", (), "GET /health"),
    Family("readiness_check_requests_total", "counter", (), "GET /readiness"),
    Family("models_list_requests_total", "counter", (), "GET /models and /v1/models"),
    Family("model_info_requests_total", "counter", (), "GET /models/… and /v1/models/…"),
    Family("history_requests_total", "counter", (), "Requests of any method to /chat/history/…"),
    Family("rate_limit_allowed_total", "counter", (), "Requests that the rate limit let pass"),
    Family("rate_limit_blocked_total", "counter", (), "Requests that the rate limit refused"),
)  # fmt: skip
_ANSWERS = (
    Family("chat_completions_requests_total", "counter", MODEL, "Requests for chat answers, in any dialect"),
    Family("chat_completions_errors_total", "counter", BY_STATUS,
           "Chat answers that ended in an error, by its HTTP status"),
    Family("chat_inference_duration_seconds", "histogram", MODEL,
           "From an engine's taking a chat request to its complete answer", WAITS),
    Family("chat_generated_tokens_total", "counter", MODEL, "Tokens of chat answers"),
    Family("chat_tokens_per_second", "histogram", MODEL, "Of each complete chat answer, after its first token", RATES),
    Family("completions_requests_total", "counter", MODEL, "Requests for text completions, in any dialect"),
    Family("completions_errors_total", "counter", BY_STATUS,
           "Text completions that ended in an error, by its HTTP status"),
    Family("completions_duration_seconds", "histogram", MODEL,
           "From an engine's taking a text request to its complete answer", WAITS),
    Family("completions_tokens_total", "counter", MODEL, "Tokens of text completions"),
    Family("completions_tokens_per_second", "histogram", MODEL,
           "Of each complete text completion, after its first token", RATES),
    Family("requests_cancelled_total", "counter", MODEL, "Answers whose caller left before the end"),
    Family("time_to_first_token_seconds", "histogram", MODEL,
           "From a request's coming, queue and boot included, to its first token", WAITS),
    Family("inter_token_latency_seconds", "histogram", MODEL, "Between two tokens of one answer", GAPS),
    Family("e2e_request_latency_seconds", "histogram", MODEL,
           "From a request's coming to the end of its complete answer", WAITS),
    Family("prompt_tokens_total", "counter", MODEL, "Tokens of prompts, cached ones included"),
    Family("generation_tokens_total", "counter", MODEL, "Tokens of answers of either kind"),
    Family("cached_tokens_total", "counter", MODEL, "Tokens of prompts that were found in the prefix cache"),
    Family("prefix_cache_hits_total", "counter", MODEL,
           "Requests of whose prompt some was found in the prefix cache"),
    Family("requests_running", "gauge", MODEL, "Requests that an engine has taken and not finished"),
    Family("requests_waiting", "gauge", MODEL, "Requests that wait for a place, or for an engine to take them"),
)  # fmt: skip
_COLD_STARTS = (
    Family("requests_waiting_for_boot", "gauge", MODEL, "Requests that found no engine and wait for it to boot"),
    Family("cold_start_requests_total", "counter", MODEL, "Requests that found no engine and had to wait for one"),
    Family("cold_start_seconds", "histogram", MODEL,
           "Cold starts as callers see them: from the first request that found no engine to the first that found one",
           WAITS),
    Family("engine_boot_seconds", "histogram", ("model", "phase"),
           "What each phase of an engine's boot took; `ready`: the whole, until requests are answered", WAITS,
           origin="engine"),
    Family("engine_boots_failed_total", "counter", MODEL, "Engines that could not start", origin="engine"),
)  # fmt: skip
_USAGE = (
    Family("usage_cost_total", "counter", MODEL, "What requests cost by the model's prices, in usage.currency"),
    Family("usage_engine_seconds_total", "counter", MODEL,
           "Seconds for which engines had requests, each counted by itself"),
)  # fmt: skip
_CONTAINERS = (
    Family("web_containers", "gauge", (), "Containers of the web endpoint, and of batches, that are alive"),
    Family("web_container_starts_total", "counter", (),
           "Containers of the web endpoint, and of batches, that have started"),
    Family("web_container_seconds_total", "counter", (), "For how long they have been there, added up"),
    Family("engine_containers", "gauge", MODEL, "Containers of a model's engine that are alive", origin="engine"),
    Family("engine_container_starts_total", "counter", MODEL, "Containers of it that have started", origin="engine"),
    Family("engine_container_seconds_total", "counter", MODEL, "For how long they have been there, added up",
           origin="engine"),
    Family("metrics_publish_errors_total", "counter", (), "Writings of a container's metrics that failed",
           origin="any"),
)  # fmt: skip
_ENGINES = (
    Family("engine_requests_running", "gauge", MODEL, "Requests in the engine's batch", origin="engine"),
    Family("engine_requests_queued", "gauge", MODEL, "Requests in the engine's own queue", origin="engine"),
    Family("engine_cache_tokens_used", "gauge", MODEL, "Tokens that the engine's key-value cache holds",
           origin="engine"),
    Family("engine_cache_tokens_capacity", "gauge", MODEL, "Tokens that it has room for", origin="engine"),
    Family("engine_requests_total", "counter", MODEL, "Requests that the engine has finished", origin="engine"),
    Family("engine_requests_aborted_total", "counter", MODEL, "Requests that the engine was told to break off",
           origin="engine"),
    Family("engine_prompt_tokens_total", "counter", MODEL, "Tokens of prompts, by the engine's count",
           origin="engine"),
    Family("engine_generation_tokens_total", "counter", MODEL, "Tokens of answers, by the engine's count",
           origin="engine"),
    Family("engine_cached_tokens_total", "counter", MODEL, "Tokens of prompts that its prefix cache held",
           origin="engine"),
    Family("engine_time_to_first_token_seconds", "histogram", MODEL, "By the engine's clock, its queue included",
           ENGINE_WAITS, origin="engine"),
    Family("engine_inter_token_latency_seconds", "histogram", MODEL, "By the engine's clock", ENGINE_GAPS,
           origin="engine"),
    Family("engine_e2e_request_latency_seconds", "histogram", MODEL, "By the engine's clock", ENGINE_WAITS,
           origin="engine"),
)  # fmt: skip

FAMILIES: tuple[Family, ...] = (*_HTTP, *_ANSWERS, *_COLD_STARTS, *_USAGE, *_CONTAINERS, *_ENGINES)


def family(name: str) -> Family:
    """The family of this name. Raises KeyError."""
    return _BY_NAME[name]


_BY_NAME = {one.name: one for one in FAMILIES}
