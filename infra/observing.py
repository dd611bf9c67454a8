"""The settings of what the service tells about itself: metrics, logs, traces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section

LogFormat = Literal["auto", "json", "text"]


class Observability(Section):
    """Metrics, logs and traces."""

    enable_metrics: bool = True
    """Whether `metrics_path` answers, for Prometheus."""
    enable_tracing: bool = True
    metrics_path: Annotated[str, Field(pattern=r"^/")] = "/metrics"
    log_format: LogFormat = "auto"
    """`json`: one object a line; `text`: for people; `auto`: text in a terminal, else json."""
    access_log: bool = True
    """Whether each request, and each answer over a WebSocket, is a line of the log."""
    log_prompts: bool = False
    """Whether prompts, answers and the words of errors about them may be in the log. Keys never are."""
