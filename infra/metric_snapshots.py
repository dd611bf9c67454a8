"""What a container has counted, as plain whole numbers: added, subtracted, packed and unpacked. Pure.

All numbers but a bucket's are in units of `UNIT`, as whole ones: sums do not depend on the order in which they are
made, where those of floats do, and a counter that falls by its last digit would look to Prometheus like one that began
anew. A family is kept with its shape, so that what an older or a newer version of the service has counted under another
one is carried along and neither mixed up with this one's nor lost.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.metric_families import Family, Kind

UNIT = 10**9

LabelValues = tuple[str, ...]
Numbers = tuple[int, ...]
"""A counter's or gauge's one number; of a histogram, the sum, and then how many values each bucket has for itself."""


class Shape(NamedTuple):
    """What has to be the same of two families that are added up."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    @classmethod
    def of(cls, family: Family) -> Shape:
        return cls(family.name, family.kind, family.labels, family.bounds)


Snapshot = dict[Shape, dict[LabelValues, Numbers]]


def units(value: float) -> int:
    """A number as it is kept. Rising values give rising ones."""
    return value * UNIT if isinstance(value, int) else round(value * UNIT)


def total(snapshots: Iterable[Snapshot]) -> Snapshot:
    """All of them, added up."""
    found: Snapshot = {}
    for snapshot in snapshots:
        for shape, series in snapshot.items():
            mine = found.setdefault(shape, {})
            for labels, numbers in series.items():
                there = mine.get(labels)
                mine[labels] = numbers if there is None else tuple(map(int.__add__, there, numbers))
    return found


def less(snapshot: Snapshot, part: Snapshot) -> Snapshot:
    """A snapshot without a part of what it counts, which was counted before; gauges, which count nothing, stay."""
    left: Snapshot = {}
    for shape, series in snapshot.items():
        before = {} if shape.kind == "gauge" else part.get(shape, {})
        left[shape] = {
            labels: tuple(map(int.__sub__, numbers, before[labels])) if labels in before else numbers
            for labels, numbers in series.items()
        }
    return left


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """What lasts of a container that is gone."""
    return {shape: series for shape, series in snapshot.items() if shape.kind != "gauge"}


def pack(snapshot: Snapshot) -> bytes:
    """As it is stored: compressed JSON. What has not been counted yet is left out."""
    counted = {shape: [one for one in series.items() if any(one[1])] for shape, series in snapshot.items()}
    told = [[*shape, series] for shape, series in counted.items() if series]
    return zlib.compress(json.dumps(told, separators=(",", ":")).encode(), level=6)


def unpack(data: bytes) -> Snapshot:
    """Raises ValueError for what `pack` has not made."""
    try:
        told: list[Any] = json.loads(zlib.decompress(data))
        return {
            Shape(name, kind, tuple(labels), tuple(bounds)): {
                tuple(values): tuple(map(int, numbers)) for values, numbers in series
            }
            for name, kind, labels, bounds, series in told
        }
    except (zlib.error, TypeError, ValueError) as error:
        raise ValueError(f"this is no snapshot of metrics: {error!r}") from error
