"""The settings of the section `health`: when an engine that runs is taken for lost, and another one started."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.section import Section


class Health(Section):
    """How engines are watched, each by the container or the process that has started it. Times are in seconds."""

    probe_seconds: Annotated[float, Field(gt=0)] = 10.0
    """Between two looks at whether an engine still answers its health check."""
    probe_timeout: Annotated[float, Field(gt=0)] = 30.0
    """How long it may take to answer one: SGLang has a token made for it, and itself gives up after 20 s."""
    failures: Annotated[int, Field(ge=1)] = 3
    """So many in a row, and it is replaced."""
    answer_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Between two looks at whether its answers are any: one token of its own is asked for. 0: never."""
