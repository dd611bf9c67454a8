"""The settings of how containers' metrics are put together: the section `metrics`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.section import Section


class Measuring(Section):
    """Metrics of containers that come and go; `observability` says whether there are any, and where."""

    publish_interval: Annotated[float, Field(ge=1, le=300)] = 15.0
    """Seconds between two writings of a container's metrics to the table: what a killed one loses at most. Each costs
    one write unit for each KiB."""
