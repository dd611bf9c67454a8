"""`/admin/usage`: who has used what; and `/v1/usage`, where callers see what is theirs."""

from __future__ import annotations

import functools
import logging
import re
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator

from infra.aws import StateUnavailable
from infra.usage import day_of, money
from infra.usage_report import Part, read, report
from web.auth import require_scope
from web.budgets import limit_of
from web.caller import caller_of
from web.dialects.usage import Budget, OwnUsagePage, UsagePage, page_of
from web.errors import InvalidRequest
from web.usage import account_of
from web.usage_errors import UsageUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import TypeVar

    from infra.usage import Row
    from infra.usage_report import Line
    from web.services import Services
    from web.usage import Meter, UsageStore

    Answer = TypeVar("Answer")

log = logging.getLogger(__name__)


def _written_as_a_day(given: object) -> object:
    """pydantic would take a number, too, for seconds since the epoch."""
    if isinstance(given, str) and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", given):
        raise ValueError("expected a day as YYYY-MM-DD")
    return given


Key = Annotated[str | None, Query(description="Of this key alone: its identity or name")]
Day = Annotated[date, BeforeValidator(_written_as_a_day)]
Since = Annotated[
    Day | None, Query(alias="from", description="The first day (UTC); the first of this month unless given")
]
Until = Annotated[Day | None, Query(alias="to", description="The last day; today unless given")]
Model = Annotated[str | None, Query(description="Of this model alone: its id or name")]
GroupBy = Annotated[list[Part] | None, Query(description="What to tell apart; the rest is added up")]
After = Annotated[str | None, Query(description="The `last_id` of the page before")]
Limit = Annotated[int, Query(ge=1, le=10_000)]
FAILURES: dict[int | str, dict[str, Any]] = {503: {"description": "Usage cannot be read now"}}


def router(services: Services, meter: Meter) -> APIRouter:
    api = APIRouter(tags=["usage"], responses=FAILURES)
    models, clock = services.settings.models, services.clock

    def days(since: date | None, until: date | None) -> tuple[str, str]:
        today = day_of(clock.time())
        first = f"{today[:7]}-01" if since is None else since.isoformat()
        last = today if until is None else until.isoformat()
        if first > last:
            raise InvalidRequest(f"'from' ({first}) is after 'to' ({last}).", param="from", code="invalid_value")
        return first, last

    def lines(rows: list[Row], names: Mapping[str, str | None], by: list[Part], model: str | None) -> list[Line]:
        found = None if model is None else models.find(model)
        return report(rows, names, by=list(dict.fromkeys(by)), model=model if found is None else found.id)

    page = functools.partial(page_of, currency=services.settings.usage.currency)

    @api.get("/admin/usage", summary="What was used, by key, model and day")
    async def usage(
        request: Request, key: Key = None, since: Since = None, until: Until = None, model: Model = None,
        group_by: GroupBy = None, after: After = None, limit: Limit = 1000,
    ) -> UsagePage:  # fmt: skip
        require_scope(caller_of(request.scope), "admin")
        first, last = days(since, until)
        rows, names = await _told(meter, lambda store: read(store, key=key, since=first, until=last))
        found = lines(rows, names, group_by or ["key", "model", "day"], model)
        return page(found, after=after, limit=limit, since=first, until=last)

    @api.get("/v1/usage", summary="What the caller's own key has used, and its budget")
    async def own_usage(
        request: Request, since: Since = None, until: Until = None, model: Model = None, group_by: GroupBy = None,
        after: After = None, limit: Limit = 1000,
    ) -> OwnUsagePage:  # fmt: skip
        caller = caller_of(request.scope)
        account = account_of(caller)
        first, last = days(since, until)
        rows = await _told(meter, lambda store: store.rows(account, since=first, until=last))
        found = lines(rows, {account: caller.name}, group_by or ["model", "day"], model)
        budget = None
        if caller.monthly_budget is not None:
            most, spent = limit_of(caller.monthly_budget), await meter.spent(caller)
            budget = Budget(monthly_budget=money(most), spent=money(spent))
        told = page(found, after=after, limit=limit, since=first, until=last)
        return OwnUsagePage(**dict(told), budget=budget)

    return api


async def _told(meter: Meter, ask: Callable[[UsageStore], Awaitable[Answer]]) -> Answer:
    """What the store says, with what was counted here a moment ago. Raises UsageUnavailable."""
    await meter.flush()
    try:
        return await ask(meter.store)
    except StateUnavailable as error:
        log.error("usage cannot be read: %s", error)
        raise UsageUnavailable from error
