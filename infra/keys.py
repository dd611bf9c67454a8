"""API keys as the service keeps them: never the key, always its SHA-256.

A key becomes its fingerprint while the configuration is read (`infra.access.ApiKey`), so nothing holds it afterwards.
The fingerprints of a deployed service travel apart from its settings, in a Secret: `carry_keys`, `carried_keys`.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, TypeAdapter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.access import ApiKey
    from infra.settings import Settings

KEYS_CARRIER = "SERVICE_API_KEYS"
"""The variable in which the fingerprints of the keys travel to the web container."""

PREFIX = "sha256:"
FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")
SENDABLE = re.compile(r"[!-~]{8,512}")
"""What a header can hold."""


def fingerprint(key: str) -> str:
    """`sha256:` and the 64 hexadecimal digits of the key's SHA-256. Without salt: a key has to be long and random."""
    return PREFIX + hashlib.sha256(key.encode()).hexdigest()


def _fingerprinted(given: object) -> str:
    # What is wrong is told without repeating it.
    if not isinstance(given, str):
        raise ValueError("expected a string")
    if FINGERPRINT.fullmatch(given):
        return given
    if given.startswith(PREFIX):
        raise ValueError("expected sha256: and the 64 lower-case hexadecimal digits of the key's SHA-256")
    if not SENDABLE.fullmatch(given):
        raise ValueError("expected 8 to 512 visible ASCII characters (or sha256: and the digits of the key's SHA-256)")
    return fingerprint(given)


Fingerprint = Annotated[str, BeforeValidator(_fingerprinted)]
"""Reads a key, or a fingerprint; holds the fingerprint."""


def carry_keys(settings: Settings) -> dict[str, str]:
    """The environment variable that gives the web container the keys that it accepts: for a Secret."""
    keys = settings.security.api_keys if settings.security.enable_auth else ()
    return {KEYS_CARRIER: json.dumps([key.model_dump(mode="json") for key in keys])}


def carried_keys(environment: Mapping[str, str]) -> tuple[ApiKey, ...]:
    """What `carry_keys` gave this container; nothing elsewhere. Raises pydantic's ValidationError."""
    from infra.access import ApiKey  # which is made of Fingerprints

    return TypeAdapter(tuple[ApiKey, ...]).validate_json(environment.get(KEYS_CARRIER) or "[]")
