"""A collector of OpenTelemetry's: takes OTLP over HTTP, and keeps what it was sent."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


class Collector:
    """Listens at `url` on a thread of this process, from its making until it is left."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                bodies.append(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True, name="collector").start()

    @property
    def raw(self) -> bytes:
        return b"".join(self.bodies)

    @property
    def spans(self) -> dict[str, Span]:
        """By name; of several of one name the last."""
        return {span.name: span for one in self._resources() for scope in one.scope_spans for span in scope.spans}

    def named(self, name: str) -> list[Span]:
        return [
            span for one in self._resources() for scope in one.scope_spans for span in scope.spans if span.name == name
        ]

    @property
    def service(self) -> str:
        """Which says that it sent them."""
        (name,) = {
            attribute.value.string_value
            for one in self._resources()
            for attribute in one.resource.attributes
            if attribute.key == "service.name"
        }
        return name

    def _resources(self) -> Iterator[ResourceSpans]:
        for body in list(self.bodies):
            yield from ExportTraceServiceRequest.FromString(body).resource_spans

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
