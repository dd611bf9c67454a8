"""An API key that the table keeps: what is known of it, and what becomes of it. Pure.

The key itself is told once, to whoever makes it. It is `sk-`, 40 random characters (238 bits), and 6 that are a
checksum of those: most of what is no key of the table is told from one without asking the table.
"""

from __future__ import annotations

import math
import re
import secrets
import string
import zlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field

from infra.access import KeyTerms
from infra.keys import Fingerprint, fingerprint

if TYPE_CHECKING:
    from typing import Self

Status = Literal["active", "expired", "revoked"]

KEY_ID = re.compile(r"key_[0-9a-f]{24}")
LONGEST_GRACE = 30 * 86400
"""Seconds that a key which was rotated away may live on."""

_MARK = "sk-"
_DIGITS = string.digits + string.ascii_letters
_RANDOM, _CHECKED = 40, 6
_SHAPE = re.compile(rf"{_MARK}[0-9A-Za-z]{{{_RANDOM + _CHECKED}}}")

Label = Annotated[str, Field(min_length=1, max_length=64)]
LabelValue = Annotated[str, Field(max_length=512)]
Labels = Annotated[dict[Label, LabelValue], Field(max_length=16)]


class KeyRecord(KeyTerms):
    """All times but `expires_at` are seconds since the epoch."""

    model_config = ConfigDict(extra="ignore")  # what a later version has added

    id: str
    """Of the key, which stays when it is rotated. Ids sort by when their keys were made."""
    key: Annotated[Fingerprint, Field(repr=False)]
    """The SHA-256 of the key."""
    hint: str
    """The key's last characters: by them people tell keys apart."""
    labels: Labels
    """For people and their tools; the service makes nothing of them."""
    created_at: float
    rotated_at: float | None = None
    """When it was last given another secret."""
    former: Annotated[Fingerprint | None, Field(repr=False)] = None
    """The SHA-256 of the secret before, which is accepted until `former_until`."""
    former_until: float = 0.0
    revoked_at: float | None = None
    last_used_at: float | None = None
    """To the hour or so."""
    version: int = 1
    """Counts its changes."""

    def status(self, now: float) -> Status:
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at.timestamp() else "expired"

    def accepted_until(self, given: str) -> float:
        """Until when whoever has the key of the fingerprint `given` may use it, as far as is known: seconds since the
        epoch; never less than 0, which is in the past."""
        if self.revoked_at is not None or given not in (self.key, self.former):
            return 0.0
        end = math.inf if self.expires_at is None else self.expires_at.timestamp()
        return end if given == self.key else min(end, self.former_until)

    def fingerprints(self, now: float) -> tuple[str, ...]:
        """Of the secrets that are still to be known."""
        if self.revoked_at is not None:
            return ()
        return (self.key, self.former) if self.former is not None and now < self.former_until else (self.key,)

    def revoked(self, now: float) -> Self:
        """Without its secrets for good."""
        return self.model_copy(update={"revoked_at": now, "former": None, "former_until": 0.0} | self._next())

    def rotated(self, now: float, *, grace: float) -> tuple[Self, str]:
        """The key with another secret, and that secret. The one before is accepted for `grace` seconds more, and any
        before that no longer."""
        secret = made_secret()
        former = {"former": self.key, "former_until": now + grace} if grace else {"former": None, "former_until": 0.0}
        changes = {**_of(secret), **former, "rotated_at": now}
        return self.model_copy(update=changes | self._next()), secret

    def changed(self, terms: KeyTerms, labels: dict[str, str]) -> Self:
        """With those terms in place of its own."""
        changes = {name: getattr(terms, name) for name in KeyTerms.model_fields}
        return self.model_copy(update={**changes, "labels": labels} | self._next())

    def _next(self) -> dict[str, int]:
        return {"version": self.version + 1}


def new_key(terms: KeyTerms, *, labels: dict[str, str], now: float) -> tuple[KeyRecord, str]:
    """A key, and its secret."""
    secret = made_secret()
    told = {name: getattr(terms, name) for name in KeyTerms.model_fields}
    key_id = f"key_{round(now * 1000):012x}{secrets.token_hex(6)}"
    return KeyRecord(**told, **_of(secret), id=key_id, labels=labels, created_at=now), secret


def made_secret() -> str:
    body = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return f"{_MARK}{body}{_checksum(body)}"


def may_be_kept(key: str) -> bool:
    """Whether a table can have this key."""
    if not _SHAPE.fullmatch(key):
        return False
    body = key[len(_MARK) : -_CHECKED]
    return key.endswith(_checksum(body))


def _checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECKED):
        rest, digit = divmod(rest, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits


def _of(secret: str) -> dict[str, Any]:
    return {"key": fingerprint(secret), "hint": secret[-4:]}


def shown(record: KeyRecord, now: float) -> dict[str, Any]:
    """What is told of a key, to be JSON: all but its SHA-256. Times are whole seconds since the epoch."""

    def second(at: float | None) -> int | None:
        return None if at is None else int(at)

    return {
        "id": record.id, "object": "api_key", "name": record.name, "hint": record.hint, "status": record.status(now),
        "scopes": list(record.scopes), "models": list(record.models),
        "rate_limit_per_minute": record.rate_limit_per_minute, "tokens_per_minute": record.tokens_per_minute,
        "monthly_budget": record.monthly_budget, "labels": record.labels, "created_at": int(record.created_at),
        "expires_at": None if record.expires_at is None else int(record.expires_at.timestamp()),
        "last_used_at": second(record.last_used_at), "rotated_at": second(record.rotated_at),
        "former_key_until": int(record.former_until) if len(record.fingerprints(now)) > 1 else None,
        "revoked_at": second(record.revoked_at),
    }  # fmt: skip
