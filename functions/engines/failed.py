"""What answers in the place of an engine that cannot start: every request is told why, at once."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from functions.engines.base import Address


class FailureServer:
    """Answers 503 with `engine_start_failed` and the header `x-engine-state: failed`, which the relay passes on."""

    def __init__(self, address: Address, message: str) -> None:
        self.address = address
        self.message = message
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen at the address. Raises OSError when it is taken."""
        error = {"message": self.message, "type": "server_error", "param": None, "code": "engine_start_failed"}
        body = json.dumps({"error": error}).encode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                # What was sent must be read: closing on unread bytes resets the connection and loses the answer.
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.send_response(503)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.send_header("x-engine-state", "failed")
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = do_PUT = answer

            def log_message(self, *_: object) -> None:
                """Quiet: the failure itself was logged."""

        self._server = ThreadingHTTPServer((self.address.host, self.address.port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="engine-failure", daemon=True).start()

    def stop(self) -> None:
        """Stop listening. Idempotent."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
