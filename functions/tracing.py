"""Traces by OpenTelemetry: recorded in this process, sent to a collector by OTLP over HTTP.

Imported only where they are asked for (`observability.otlp_endpoint`). Raises ConfigurationError then, where the
packages are not there.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from infra.configuration import ConfigurationError
from web.tracing import answer_attributes, phases

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode, get_current_span, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as missing:
    raise ConfigurationError(
        "observability.otlp_endpoint: traces need packages that are not installed here; "
        "expected those of requirements/tracing.txt"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span, Tracer

    from infra.settings import Settings
    from web.record import Record

EXPORT_SECONDS = 5
"""That a collector may take for one batch of spans: a container that leaves waits for it."""
CONTEXT = TraceContextTextMapPropagator()


class OpenTelemetry:
    """A `web.tracing.Tracing`. Touches no global of OpenTelemetry's. Headers for the collector, keys among them, are
    the exporter's to read from `OTEL_EXPORTER_OTLP_HEADERS`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None

    def open(self) -> None:
        observability = self._settings.observability
        assert observability.otlp_endpoint is not None
        exporter = OTLPSpanExporter(
            endpoint=observability.otlp_endpoint.rstrip("/") + "/v1/traces", timeout=EXPORT_SECONDS
        )
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": self._settings.deploy.app_name}),
            sampler=ParentBased(TraceIdRatioBased(observability.trace_sample_ratio)),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("llm-service")

    def begin(self, headers: Mapping[str, str], now: float, *, cause: str | None = None) -> _Trace | None:
        return None if self._tracer is None else _Trace(self._tracer, headers, now, links=_links(cause))

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()
            self._provider = self._tracer = None


def _links(cause: str | None) -> list[Link]:
    """To a span that was not recorded there is none: it would lead nowhere."""
    if cause is None:
        return []
    context = get_current_span(CONTEXT.extract({"traceparent": cause})).get_span_context()
    return [Link(context)] if context.is_valid and context.trace_flags.sampled else []


class _Trace:
    def __init__(self, tracer: Tracer, headers: Mapping[str, str], now: float, *, links: list[Link]) -> None:
        self._tracer = tracer
        self._zero = time.time_ns() - int(now * 1e9)
        """Where the clock's monotonic scale begins, in nanoseconds since the epoch."""
        self._server = tracer.start_span(
            "request", context=CONTEXT.extract(headers), kind=SpanKind.SERVER, start_time=self._at(now), links=links
        )
        self._call: Span | None = None
        self._called = ""

    def call(self, name: str, attributes: Mapping[str, Any], now: float) -> None:
        self._call = self._tracer.start_span(
            name, context=set_span_in_context(self._server), kind=SpanKind.CLIENT, attributes=dict(attributes),
            start_time=self._at(now),
        )  # fmt: skip

    def headers(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        CONTEXT.inject(carrier, context=set_span_in_context(self._call or self._server))
        return carrier

    def end(self, name: str, attributes: Mapping[str, Any], record: Record, now: float, *, failed: bool) -> None:
        if not self._server.is_recording():
            return
        story = record.story
        for phase in phases(story):
            parent = self._call if phase.of_the_call and self._call is not None else self._server
            part = self._tracer.start_span(
                phase.name, context=set_span_in_context(parent), start_time=self._at(phase.begun)
            )
            part.end(self._at(phase.ended))
        if self._call is not None:
            self._call.set_attributes(answer_attributes(story, record.error))
            if record.error is not None:
                self._call.set_status(Status(StatusCode.ERROR, record.error))
            self._call.end(self._at(now if story is None else story.ended))
        self._server.update_name(name)
        self._server.set_attributes(dict(attributes))
        if failed:
            self._server.set_status(Status(StatusCode.ERROR))
        self._server.end(self._at(now))

    def _at(self, moment: float) -> int:
        return self._zero + int(moment * 1e9)
