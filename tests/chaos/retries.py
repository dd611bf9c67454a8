"""botocore's tries, without what makes tests slow or each other's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.retries.quota import RetryQuota
from botocore.retries.standard import ExponentialBackoff

if TYPE_CHECKING:
    from collections.abc import Callable


def at_once(put: Callable[[Any, str, Any], object]) -> None:
    """No waiting in between (it would be up to 1, 2, 4 s), and each call its tries, however many have failed before: a
    client has a quota of them for all its calls. `put`: like `setattr`."""
    put(ExponentialBackoff, "delay_amount", lambda self, context: 0.0)
    put(RetryQuota, "acquire", lambda self, amount: True)
