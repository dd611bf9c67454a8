"""The metrics of all containers for a Prometheus, read from the table: nothing that scales to zero is woken by it.

    python -m infra.exporter                       # http://127.0.0.1:9464/metrics
    python -m infra.exporter --host 0.0.0.0 --port 9464

It needs the service's configuration (where the table is; which models there are) and credentials that may read the
table, and asks nobody else. Whoever reaches its port can read the metrics: it has no keys.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from infra.aws import Clients, StateUnavailable
from infra.configuration import ConfigurationError, load_settings
from infra.metric_text import render
from infra.metrics_table import MetricsTable
from infra.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from infra.metric_snapshots import Snapshot
    from infra.settings import Settings

PORT = 9464
FRESH_SECONDS = 1.0
"""For so long a reading is told again: one query a second at most, however many ask."""
TEXT = "text/plain; charset=utf-8"

log = logging.getLogger("exporter")


class Exporter:
    """Any thread may ask it."""

    def __init__(self, settings: Settings, clients: Clients, *, time: Callable[[], float] = time.time) -> None:
        self._models = [model.id for model in settings.models.available_models]
        self._store = MetricsTable(Table(clients, settings.table_name))
        self._time = time
        self._lock = threading.Lock()
        self._read: tuple[float, Snapshot] | None = None

    def answer(self, accept: str) -> tuple[bytes, str]:
        """The body, and its `Content-Type`. Raises StateUnavailable."""
        with self._lock:
            now = self._time()
            if self._read is None or abs(now - self._read[0]) >= FRESH_SECONDS:
                self._read = now, asyncio.run(self._store.read()).total(now)
            snapshot = self._read[1]
        return render(snapshot, models=self._models, accept=accept)


def server(exporter: Exporter, *, host: str, port: int) -> ThreadingHTTPServer:
    """What answers `GET /metrics` and `GET /health`; to be served and closed. Raises OSError when it cannot listen."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health":
                self._answer(200, b"ok\n")
            elif path != "/metrics":
                self._answer(404, b"GET /metrics\n")
            else:
                try:
                    body, content_type = exporter.answer(self.headers.get("accept", ""))
                except (StateUnavailable, ValueError) as error:
                    log.error("the table cannot be read: %s", error)
                    self._answer(503, b"the table cannot be read; the log says more\n")
                else:
                    self._answer(200, body, content_type)

        def _answer(self, status: int, body: bytes, content_type: str = TEXT) -> None:
            self.send_response(status)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            try:
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:  # whoever asked has left
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Quiet: scrapes come all the time."""

    listening = ThreadingHTTPServer((host, port), Handler)
    listening.daemon_threads = True
    return listening


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.exporter", description="Metrics of all containers.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)  # it tells where it found credentials
    try:
        settings = load_settings()
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    if settings.state.kind == "memory" or not settings.observability.enable_metrics:
        print(
            'exporter: metrics are not in a table; expected state.kind = "aws" and observability.enable_metrics = true',
            file=sys.stderr,
        )
        return 2
    clients = Clients(region_name=settings.state.region)
    try:
        listening = server(Exporter(settings, clients), host=options.host, port=options.port)
    except OSError as error:
        print(f"exporter: cannot listen at {options.host}:{options.port}: {error}", file=sys.stderr)
        return 2
    with listening:
        # `shutdown` waits for the loop that a signal's handler interrupts, so it is another thread's to call.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: threading.Thread(target=listening.shutdown).start())
        print(f"Ready: http://{options.host}:{listening.server_address[1]}/metrics", flush=True)
        listening.serve_forever()
    clients.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
