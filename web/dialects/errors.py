"""In whose words an error is told: by the path that was asked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.dialects import openai

if TYPE_CHECKING:
    from web.errors import WireError


def error_body(path: str, error: WireError, *, request_id: str) -> bytes:  # noqa: ARG001 (other dialects tell it)
    """The body of an error's answer on `path` (without the prefix under which the application is mounted)."""
    return openai.error_body(error)
