"""`/admin/keys`: what administrators say of API keys and are told of them, in the manner of OpenAI's objects. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.access import KeyScope, KeyTerms
from infra.key_records import LONGEST_GRACE, Labels, Status, shown

if TYPE_CHECKING:
    from infra.key_records import KeyRecord

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
Scopes = Annotated[list[KeyScope], Field(max_length=3)]
ModelNames = Annotated[list[str], Field(max_length=100)]
PerMinute = Annotated[int, Field(ge=1, le=10**12)]
Budget = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]
Second = Annotated[int, Field(ge=0, le=253_402_300_799)]
"""Since the epoch, up to the year 9999."""


class _Given(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class NewKey(_Given):
    """`models`: ids or names; empty: all. `monthly_budget`: of cost in a calendar month (UTC), in the unit of the
    models' prices. `expires_at`: seconds since the epoch."""

    name: Name
    scopes: Scopes = ["inference"]
    models: ModelNames = []
    rate_limit_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    monthly_budget: Budget | None = None
    expires_at: Second | None = None
    labels: Labels = {}


class ChangedKey(_Given):
    """What is not given stays as it is; null takes a limit away."""

    name: Name | None = None
    scopes: Scopes | None = None
    models: ModelNames | None = None
    rate_limit_per_minute: PerMinute | None = None
    tokens_per_minute: PerMinute | None = None
    monthly_budget: Budget | None = None
    expires_at: Second | None = None
    labels: Labels | None = None


class Rotation(_Given):
    """`grace_seconds`: for how long the secret before is accepted beside the new one."""

    grace_seconds: Annotated[int, Field(ge=0, le=LONGEST_GRACE)] = 0


class KeyObject(BaseModel):
    """Times are whole seconds since the epoch. `hint`: the key's last characters. `last_used_at`: to the hour or so.
    `former_key_until`: when the secret before the last rotation ends, while it lasts."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    hint: str
    status: Status
    scopes: list[KeyScope]
    models: list[str]
    rate_limit_per_minute: int | None
    tokens_per_minute: int | None
    monthly_budget: float | None
    labels: dict[str, str]
    created_at: int
    expires_at: int | None
    last_used_at: int | None
    rotated_at: int | None
    former_key_until: int | None
    revoked_at: int | None


class MadeKey(KeyObject):
    """`key`: the key itself, told this once."""

    key: str


class KeyPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[KeyObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class RevokedKey(BaseModel):
    id: str
    object: Literal["api_key.revoked"] = "api_key.revoked"
    revoked: Literal[True] = True


def key_object(record: KeyRecord, now: float) -> KeyObject:
    return KeyObject(**shown(record, now))


def made_key(record: KeyRecord, secret: str, now: float) -> MadeKey:
    return MadeKey(**shown(record, now), key=secret)


def key_page(records: list[KeyRecord], *, limit: int, now: float) -> KeyPage:
    """Of up to one record more than the `limit`."""
    data = [key_object(record, now) for record in records[:limit]]
    ends = {"first_id": data[0].id, "last_id": data[-1].id} if data else {"first_id": None, "last_id": None}
    return KeyPage(data=data, has_more=len(records) > limit, **ends)


def terms_of(given: NewKey) -> KeyTerms:
    return KeyTerms(**_read(given.model_dump(exclude={"labels"})))


def changed_terms(record: KeyRecord, given: ChangedKey) -> KeyTerms:
    """The terms of a key with those that were given in their place."""
    before = {name: getattr(record, name) for name in KeyTerms.model_fields}
    changes = given.model_dump(exclude={"labels"}, exclude_unset=True)
    for name in ("name", "scopes", "models"):
        if changes.get(name, name) is None:
            del changes[name]
    return KeyTerms(**{**before, **_read(changes)})


def _read(given: dict[str, Any]) -> dict[str, Any]:
    at = given.get("expires_at")
    return given if at is None else {**given, "expires_at": datetime.fromtimestamp(at, UTC)}
