"""What an engine tells of itself at `/metrics`, as the service's own families. Pure.

Of what engines have, some families are chosen, under names that are the same for every kind, and all an engine's own
labels are added up: how many series there are is the service's to say. Names are those of SGLang 0.5.23
(`srt/observability/metrics_collector.py`) and llama.cpp (`tools/server/README.md`, `GET /metrics`).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from infra.metric_families import family
from infra.metric_snapshots import Shape, total, units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infra.metric_snapshots import Numbers, Snapshot

SGLANG = {
    "sglang:num_running_reqs": "engine_requests_running",
    "sglang:num_queue_reqs": "engine_requests_queued",
    "sglang:num_used_tokens": "engine_cache_tokens_used",
    "sglang:max_total_num_tokens": "engine_cache_tokens_capacity",
    "sglang:num_requests_total": "engine_requests_total",
    "sglang:num_aborted_requests_total": "engine_requests_aborted_total",
    "sglang:prompt_tokens_total": "engine_prompt_tokens_total",
    "sglang:generation_tokens_total": "engine_generation_tokens_total",
    "sglang:cached_tokens_total": "engine_cached_tokens_total",
    "sglang:time_to_first_token_seconds": "engine_time_to_first_token_seconds",
    "sglang:inter_token_latency_seconds": "engine_inter_token_latency_seconds",
    "sglang:e2e_request_latency_seconds": "engine_e2e_request_latency_seconds",
}
LLAMACPP = {
    "llamacpp:requests_processing": "engine_requests_running",
    "llamacpp:requests_deferred": "engine_requests_queued",
    "llamacpp:prompt_tokens_total": "engine_prompt_tokens_total",
    "llamacpp:tokens_predicted_total": "engine_generation_tokens_total",
}
NAMES: Mapping[str, str] = {**SGLANG, **LLAMACPP}
"""An engine's name -> the service's. The scripted engine speaks as SGLang does."""


def read(text: str, *, model: str) -> Snapshot:
    """What an engine of `model` (its id) has told. Raises ValueError for what is no text of metrics."""
    # Not at import: the web container, which starts from the same file, has no use for it.
    from prometheus_client.parser import text_string_to_metric_families

    parts: list[Snapshot] = []
    for theirs in text_string_to_metric_families(text):
        name = NAMES.get(theirs.name) or NAMES.get(theirs.name + "_total")
        if name is None:
            continue
        ours = family(name)
        if ours.kind == "histogram":
            below: dict[float, float] = {}
            sum_ = 0.0
            for sample in theirs.samples:
                if sample.name.endswith("_bucket"):
                    bound = float(sample.labels["le"])
                    below[bound] = below.get(bound, 0.0) + sample.value
                elif sample.name.endswith("_sum"):
                    sum_ += sample.value
            numbers = (units(sum_), *buckets(below, ours.bounds))
        else:
            told = [sample.value for sample in theirs.samples if not sample.name.endswith("_created")]
            numbers = (units(float(sum(told))),)
        parts.append({Shape.of(ours): {(model,): numbers}})
    return total(parts)


def buckets(below: Mapping[float, float], bounds: Sequence[float]) -> Numbers:
    """How many values each of our buckets has. `below`: an engine's bound -> how many are not above it. Where the
    engine has no such bound, what lies between its next lower one and ours counts as above ours."""
    theirs = sorted(below)
    if not theirs:
        return (0,) * (len(bounds) + 1)

    def until(bound: float) -> int:
        place = bisect_right(theirs, bound)
        return int(below[theirs[place - 1]]) if place else 0

    reached = [*(until(bound) for bound in bounds), int(below[theirs[-1]])]
    return tuple(there - before for before, there in zip([0, *reached], reached, strict=False))
