"""One table has every metric, and what is promised, documented and shown is held to it."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families as parse

from infra.metric_families import FAMILIES, Family
from infra.metric_text import render

DOCUMENT = Path(__file__).parents[2] / "docs/metrics.md"
OWN = {
    "health_check_requests_total", "readiness_check_requests_total", "models_list_requests_total",
    "model_info_requests_total", "history_requests_total", "completions_requests_total", "completions_errors_total",
    "completions_duration_seconds", "completions_tokens_total", "completions_tokens_per_second",
    "chat_completions_requests_total", "chat_completions_errors_total", "chat_inference_duration_seconds",
    "chat_generated_tokens_total", "chat_tokens_per_second", "rate_limit_allowed_total", "rate_limit_blocked_total",
    "prefix_cache_hits_total",
}  # fmt: skip
"""The names that the service promises."""
FIELDS = {
    "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds", "prompt_tokens_total",
    "generation_tokens_total", "cached_tokens_total",
}  # fmt: skip
"""The names that the field uses."""
BOUNDED = {"model", "route", "method", "status", "phase"}


def row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return f"| `{family.name}` | {family.kind} | {labels} | {family.origin} | {family.text} |"


def test_every_promised_name_is_in_the_table() -> None:
    assert {family.name for family in FAMILIES} >= OWN | FIELDS


def test_names_kinds_and_labels_follow_the_field_s_rules() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert (family.kind == "histogram") == bool(family.bounds), family.name
        assert list(family.bounds) == sorted(set(family.bounds)), family.name
        assert set(family.labels) <= BOUNDED, family.name


def test_the_reference_has_the_table_as_it_is() -> None:
    documented = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    expected = [row(family) for family in FAMILIES]
    assert documented == expected, "docs/metrics.md should have:\n" + "\n".join(expected)


def test_every_family_is_told_before_anything_was_counted() -> None:
    body, content_type = render({}, models=["a"], accept="")
    told = {family.name: family for family in parse(body.decode())}
    assert content_type.startswith("text/plain")
    assert set(told) == {family.name.removesuffix("_total") for family in FAMILIES}
    assert {sample.labels["model"] for sample in told["prompt_tokens"].samples} == {"a"}
    assert {sample.value for family in told.values() for sample in family.samples} == {0.0}
