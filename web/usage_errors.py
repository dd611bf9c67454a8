"""What can go wrong with usage and budgets, beside what `web.errors` says of everything."""

from __future__ import annotations

from web.errors import UNAVAILABLE, ServiceError


class BudgetExhausted(ServiceError):
    """The key has spent what it may in a month. `renewed`: the day on which the next one begins."""

    status, type, code = 429, "insufficient_quota", "insufficient_quota"
    again = False  # it would be refused for the rest of the month

    def __init__(self, budget: float, currency: str, *, renewed: str) -> None:
        super().__init__(
            f"You exceeded your current quota: this API key's budget of {budget:g} {currency} a month is spent. "
            f"It begins anew on {renewed} (UTC)."
        )


class UsageUnavailable(ServiceError):
    """What keeps usage cannot be reached, so nobody can read of it; it is counted all the same."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "usage_unavailable", True, 2.0

    def __init__(self) -> None:
        super().__init__("Usage cannot be read now. Try again.")
