"""In whose words an error is told: by the path that was asked. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from web.dialects import openai

if TYPE_CHECKING:
    from web.errors import WireError

ANTHROPIC = "/v1/messages"


def speaks_anthropic(path: str) -> bool:
    """Whether whoever asks for this path expects Anthropic's words."""
    return path.startswith(ANTHROPIC) and path[len(ANTHROPIC) :][:1] in ("", "/")


def error_body(path: str, error: WireError, *, request_id: str) -> bytes:
    """The body of an error's answer on `path` (without the prefix under which the application is mounted)."""
    if speaks_anthropic(path):
        from web.dialects import anthropic  # who asks in it has loaded it; others need not

        return anthropic.error_body(error, request_id=request_id)
    return openai.error_body(error)
