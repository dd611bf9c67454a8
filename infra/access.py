"""The settings of who may ask, how much, and what: the sections `security`, `limits` and `guards`."""

from __future__ import annotations

import re
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network  # noqa: TC003 - pydantic reads annotations
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from infra.keys import Fingerprint  # noqa: TC001 - likewise
from infra.section import Section

KeyScope = Literal["inference", "admin", "metrics"]


def _compiles(expression: str) -> str:
    try:
        re.compile(expression)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}: {expression!r}") from None
    if re.search(expression, "") is not None:
        raise ValueError(f"matches an empty text, so every text: {expression!r}")
    return expression


Expression = Annotated[str, AfterValidator(_compiles)]
Origin = Annotated[str, Field(pattern=r"^(\*|null|[a-z][a-z0-9+.-]*://[^/?#\s]+)$")]
"""What a browser sends as `Origin`: no path, no slash at the end. `*`: any."""


def _has_a_zone(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise ValueError("expected a time with its zone, as 2030-01-01T00:00:00Z")
    return time


Instant = Annotated[datetime, AfterValidator(_has_a_zone)]


class KeyTerms(Section):
    """What a key is for, wherever it is kept."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
    """For logs and people."""
    scopes: tuple[KeyScope, ...] = ("inference",)
    """`inference`: ask models; `admin`: load and unload them, and manage keys; `metrics`: read the metrics."""
    models: tuple[str, ...] = ()
    """The ids or names of the models that it may ask. Empty: all."""
    rate_limit_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Requests; `limits.default_rate_limit_per_minute` unless set."""
    tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Of prompts and answers; `limits.default_tokens_per_minute` unless set."""
    monthly_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """What its answers may cost in a calendar month (UTC), in whatever unit the models' prices have. None: anything."""
    expires_at: Instant | None = None
    """From when on it is refused. None: never."""


class ApiKey(KeyTerms):
    """One caller's key, in the configuration. `key` is read as the key or as its SHA-256, and held as its SHA-256."""

    key: Annotated[Fingerprint, Field(repr=False)]
    enabled: bool = True


class Security(Section):
    enable_auth: bool = False
    allow_public: bool = False
    """Whether an endpoint without keys may be deployed to the public internet."""
    allowed_origins: tuple[Origin, ...] = ("*",)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    """Whose `X-Forwarded-For` is believed."""
    fetch_images: bool = False
    """Whether images in messages may be `http(s):` URLs, which the engine fetches: from wherever its network reaches,
    so callers can have it ask addresses that they cannot. Else images are sent as `data:` URLs."""
    api_keys: tuple[ApiKey, ...] = ()

    @model_validator(mode="after")
    def _keys_are_unique(self) -> Self:
        seen: dict[str, str] = {}
        for key in self.api_keys:
            if key.key in seen:
                raise ValueError(f"two entries hold one key: {seen[key.key]!r} and {key.name!r}")
            seen[key.key] = key.name
        return self


class Limits(Section):
    max_prompt_length: Annotated[int, Field(ge=1)] = 8192
    """Characters of all the text that a request asks about."""
    max_response_tokens: Annotated[int, Field(ge=1)] = 2048
    """What `max_tokens` is clamped to, and set to when it is absent."""
    max_sessions: Annotated[int, Field(ge=1)] = 1000
    session_ttl_seconds: Annotated[int, Field(ge=1)] = 3600
    default_rate_limit_per_minute: Annotated[int, Field(ge=1)] = 60
    """Requests of one key in any minute, at all web containers together; without keys of one client address, at each.
    With `state.kind` "memory" each container counts keys for itself too."""
    default_tokens_per_minute: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompts and answers, likewise. None: not limited."""


class Guards(Section):
    """Python regular expressions that neither prompts nor answers may hold."""

    blocked_prompts: tuple[Expression, ...] = ()
    """A prompt in which one is found is refused."""
    blocked_answers: tuple[Expression, ...] = ()
    """An answer in which one is found ends before it, with the finish reason `content_filter`."""
    held_back_characters: Annotated[int, Field(ge=1, le=4096)] = 64
    """How much of a streamed answer is held back meanwhile: a match up to this long is caught before any of it goes."""
