"""The garbage collector, for a process that serves."""

from __future__ import annotations

import gc

NEW_OBJECTS = 50_000
"""How many more containers (dicts, lists, tasks, …) there are than before when the youngest are looked through: those
of some 150 requests at once."""


def spare_the_application() -> None:
    """To be called once everything that stays is there: the collector looks at it no more, and less often at the rest.

    A request makes some hundred objects, nearly all of which are freed by their reference counts; with Python's
    thresholds (700, and all modules looked through again and again) the search for cycles among them is 6 % of a
    request's CPU (measured by perf).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, 20, 20)
