"""Snapshots of metrics as Prometheus reads them: what `/metrics` and the exporter answer."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder

from infra.metric_families import FAMILIES, MODEL
from infra.metric_snapshots import UNIT, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.core import Metric

    from infra.metric_families import Family
    from infra.metric_snapshots import LabelValues, Numbers, Snapshot


def render(snapshot: Snapshot, *, models: Sequence[str], accept: str) -> tuple[bytes, str]:
    """The body, and its `Content-Type`: in the text format, or in OpenMetrics where `accept` prefers that. Every family
    is there from the beginning, and those by model alone at 0 for each of `models` (ids): what is not there before it
    has happened once has no rate when it does."""
    encode, content_type = choose_encoder(accept)
    return encode(_Collector(snapshot, models)), content_type


class _Collector:
    def __init__(self, snapshot: Snapshot, models: Sequence[str]) -> None:
        self._snapshot = snapshot
        self._models = models

    def collect(self) -> Iterator[Metric]:
        for family in FAMILIES:
            series = self._snapshot.get(Shape.of(family), {})
            nothing = (0,) * (len(family.bounds) + 2 if family.kind == "histogram" else 1)
            known: dict[LabelValues, Numbers] = {}
            if family.labels == MODEL:
                known = {(model,): nothing for model in self._models}
            elif not family.labels:
                known = {(): nothing}
            yield _told(family, {**known, **series})


def _told(family: Family, series: dict[LabelValues, Numbers]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.text, labels=family.labels)
        names = [*(str(float(bound)) for bound in family.bounds), "+Inf"]
        for labels, (sum_, *counts) in series.items():
            buckets = list(zip(names, accumulate(counts), strict=True))
            histogram.add_metric(labels, buckets=buckets, sum_value=sum_ / UNIT)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    plain = kind(family.name, family.text, labels=family.labels)
    for labels, (value,) in series.items():
        plain.add_metric(labels, value / UNIT)
    return plain
