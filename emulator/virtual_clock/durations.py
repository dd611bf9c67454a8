"""Durations as one writes them in a test: `"90s"`, `"5m"`, `"1h30m"`, `"1d"`, seconds, or a `timedelta`."""

from __future__ import annotations

import math
import re
from datetime import timedelta

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")

Duration = str | float | timedelta


def seconds_of(duration: Duration) -> float:
    """Raises `ValueError` for what is no duration, or a negative one."""
    if isinstance(duration, timedelta):
        found = duration.total_seconds()
    elif isinstance(duration, str):
        found = _parsed(duration)
    else:
        found = float(duration)
    if not math.isfinite(found) or found < 0:
        raise ValueError(f"time only goes on: not by {duration!r}")
    return found


def _parsed(text: str) -> float:
    compact = text.replace(" ", "")
    parts = _PART.findall(compact)
    if not parts or "".join(amount + unit for amount, unit in parts) != compact:
        raise ValueError(f"{text!r} is no duration: write it like '90s', '5m', '1h30m' or '1d'")
    return sum(float(amount) * UNITS[unit] for amount, unit in parts)
