"""The settings of what the service tells about itself: metrics, logs, traces."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from infra.section import Section

LogFormat = Literal["auto", "json", "text"]


def _without_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "expected an address without a user and a password, for it travels with the settings: what a collector "
            "is to believe is a header, in OTEL_EXPORTER_OTLP_HEADERS (on Modal in the Secret that otlp_secret names)"
        )
    return url


class Observability(Section):
    """Metrics, logs and traces."""

    enable_metrics: bool = True
    """Whether `metrics_path` answers, for Prometheus."""
    enable_tracing: bool = True
    """Whether traces are recorded, where there is an `otlp_endpoint` for them."""
    metrics_path: Annotated[str, Field(pattern=r"^/")] = "/metrics"
    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://[^\s]+$"), AfterValidator(_without_password)] | None = None
    """Of an OpenTelemetry collector that takes OTLP over HTTP (`http://collector:4318`); no traces unless set."""
    otlp_secret: str | None = None
    """A Modal Secret with `OTEL_EXPORTER_OTLP_HEADERS`, for a collector that asks for a key."""
    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """How many are traced of the requests that come without a trace of their caller's. One with it, as that says."""
    log_format: LogFormat = "auto"
    """`json`: one object a line; `text`: for people; `auto`: text in a terminal, else json."""
    access_log: bool = True
    """Whether each request, and each answer over a WebSocket, is a line of the log."""
    log_prompts: bool = False
    """Whether prompts, answers and the words of errors about them may be in the log. Keys never are."""

    @property
    def traced(self) -> bool:
        return self.enable_tracing and self.otlp_endpoint is not None
