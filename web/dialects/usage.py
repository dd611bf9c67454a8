"""Usage as the API tells it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.usage_report import total

if TYPE_CHECKING:
    from infra.usage_report import Line


class UsageSum(BaseModel):
    """`cost`: in the currency, exact, as a decimal. `estimated_requests`: those of the requests that were broken off
    before the engine told their tokens, which are counted then (answers), and estimated (prompts)."""

    requests: int
    prompt_tokens: int
    cached_tokens: int = Field(description="Of the prompts' tokens")
    completion_tokens: int
    engine_seconds: float
    cost: str
    estimated_requests: int


class UsageObject(UsageSum):
    """What one key, model, day or month has used; null: all of them together."""

    id: str
    object: Literal["usage"] = "usage"
    key: str | None
    name: str | None
    model: str | None
    day: str | None
    month: str | None


class UsagePage(BaseModel):
    """`total`: of all pages."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    object: Literal["list"] = "list"
    data: list[UsageObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
    total: UsageSum
    currency: str
    since: str = Field(alias="from")
    until: str = Field(alias="to")


class Budget(BaseModel):
    """A key's, of this month (UTC); costs as decimals."""

    monthly_budget: str
    spent: str


class OwnUsagePage(UsagePage):
    """`budget`: null where there is none."""

    budget: Budget | None


def page_of(lines: list[Line], *, after: str | None, limit: int, currency: str, since: str, until: str) -> UsagePage:
    """The lines behind the one whose id is `after` (all, where that is not there)."""
    ids = [line.place for line in lines]
    rest = lines[ids.index(after) + 1 :] if after in ids else lines
    shown = [_object(line) for line in rest[:limit]]
    return UsagePage.model_validate({
        "data": shown, "first_id": shown[0].id if shown else None, "last_id": shown[-1].id if shown else None,
        "has_more": len(rest) > limit, "total": _numbers(total(lines)), "currency": currency,
        "from": since, "to": until,
    })  # fmt: skip


def _object(line: Line) -> UsageObject:
    parts = {"key": line.key, "name": line.name, "model": line.model, "day": line.day, "month": line.month}
    return UsageObject.model_validate({"id": line.place, **parts, **_numbers(line)})


def _numbers(line: Line) -> dict[str, Any]:
    amounts = line.amounts
    return {
        "requests": amounts.requests, "prompt_tokens": amounts.prompt_tokens, "cached_tokens": amounts.cached_tokens,
        "completion_tokens": amounts.completion_tokens, "engine_seconds": line.engine_seconds, "cost": line.cost,
        "estimated_requests": amounts.estimated_requests,
    }  # fmt: skip
