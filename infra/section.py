"""What every table of the configuration is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of the configuration: immutable, and strict about names."""

    model_config = ConfigDict(frozen=True, extra="forbid")
