"""The settings of what the Responses API remembers: the section `responses`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.section import Section


class Responses(Section):
    """Stored responses and conversations. Times are in seconds."""

    ttl_seconds: Annotated[int, Field(ge=60)] = 30 * 86400
    """How long a stored response is kept."""
    conversation_ttl_seconds: Annotated[int, Field(ge=60)] | None = None
    """How long a conversation is kept after its last response; until it is deleted unless set."""
