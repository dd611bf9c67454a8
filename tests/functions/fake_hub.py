"""A small Hugging Face hub on loopback: enough of its HTTP for the real client to list, resolve and download files."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE_FROM = 64
"""Files of this many bytes and more are kept as the hub keeps large ones, known by their SHA-256."""


@dataclass
class FakeHub:
    """`files` are the repositories'.

    What is in `sent_instead` arrives in the place of a file; a file in `cut_after` is cut off once, after that many
    bytes; a repository in `tokens` opens with that token only.
    """

    files: dict[str, dict[str, bytes]]
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    failing: bool = False
    failing_after_a_cut: bool = False
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(_Handler):
            state = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def listing(self, repository: str) -> dict[str, Any]:
        siblings = []
        for name, content in self.files[repository].items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob_id(content)}
            if len(content) >= LARGE_FROM:
                entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        return {"id": repository, "modelId": repository, "sha": COMMIT, "private": False, "siblings": siblings}


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.state, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        if hub.failing:
            return self.refuse(500, "")
        if path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            name = None
        else:
            repository, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
        if repository not in hub.files:
            return self.refuse(404, "RepoNotFound")
        if repository in hub.tokens and self.headers.get("authorization") != f"Bearer {hub.tokens[repository]}":
            return self.refuse(403, "GatedRepo")
        if revision not in ("", "main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if name is None:
            return self.send(200, json.dumps(hub.listing(repository)).encode(), {"content-type": "application/json"})
        if name not in hub.files[repository]:
            return self.refuse(404, "EntryNotFound")
        return self.send_file(hub.files[repository][name], name)

    def send_file(self, content: bytes, name: str) -> None:
        large = len(content) >= LARGE_FROM
        etag = hashlib.sha256(content).hexdigest() if large else blob_id(content)
        headers = {"x-repo-commit": COMMIT, "etag": f'"{etag}"', "accept-ranges": "bytes"}
        content = self.state.sent_instead.get(name, content)
        status, start = 200, 0
        if "range" in self.headers:
            self.state.ranges.append(self.headers["range"])
            start = int(self.headers["range"].removeprefix("bytes=").split("-")[0])
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            status = 206
        cut = self.state.cut_after.pop(name, None) if self.command == "GET" else None
        self.send(status, content[start:], headers, cut=cut)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"", {"x-error-code": code} if code else {})

    def send(self, status: int, body: bytes, headers: dict[str, str], *, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = cut is not None
        if cut is not None and self.state.failing_after_a_cut:
            self.state.failing = True

    def log_message(self, *_: object) -> None:
        """Quiet."""
