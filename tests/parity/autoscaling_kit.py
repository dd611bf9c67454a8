"""What the tests of autoscaling share."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import modal


def until(condition: Callable[[], bool], *, within: float = 20) -> None:
    """Return once `condition()` holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def runners(function: modal.Function[Any, Any, Any]) -> int:
    return function.get_current_stats().num_total_runners


def override(what: Any, **settings: int) -> Any:
    """Update an autoscaler in the way that the oldest client knows, and the newest still has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return what.update_autoscaler(**settings)
