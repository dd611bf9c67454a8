"""The settings of what usage costs and how long it is kept: a model's `prices`, and the section `usage`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from infra.section import Section

Price = Annotated[Decimal, Field(ge=0, max_digits=18, decimal_places=6)]
"""At most six decimal places: then a token's price, and a microsecond's, is a whole number of 10^-12."""


class Prices(Section):
    """What a model's usage costs, in `usage.currency`. A change holds for what is used from then on."""

    prompt_tokens: Price = Decimal(0)
    """A million tokens of prompts."""
    cached_tokens: Price | None = None
    """A million of those that were found in the prefix cache; as `prompt_tokens` unless set."""
    completion_tokens: Price = Decimal(0)
    """A million tokens of answers."""
    engine_seconds: Price = Decimal(0)
    """A second for which an engine had a request, however many others it had at the same time."""


class Usage(Section):
    """What is kept of who used what."""

    currency: Annotated[str, Field(min_length=1, max_length=16)] = "USD"
    """Of the models' prices and the keys' budgets: a name that reports show."""
    keep_days: Annotated[int, Field(ge=32, le=3650)] = 400
    """After which a day's usage is forgotten. Budgets need a month of it."""
    flush_seconds: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How often a web container writes down what was used: what a killed one loses at most."""
