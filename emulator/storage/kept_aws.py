"""S3 and DynamoDB over restarts: what a request has changed is in a file before it is answered.

Records of what there is, not of what was asked: a start reads each once, and moto's random ids are what they were.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from emulator.storage.object_files import ObjectFiles
from emulator.storage.sqlite_store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from emulator.storage.buckets import KeptBuckets
    from emulator.storage.store import StateError
    from emulator.storage.tables import KeptTables

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FILE, CONTENTS = "aws.sqlite3", "objects"


class KeptAws:
    """Opened with the emulator, so that a file that can not be used is told then; read when moto is asked first.

    Raises `StateError` or `OSError`. `say` is called from the threads that serve.
    """

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._store = SqliteStore(folder / FILE)
        self._files = ObjectFiles(folder / CONTENTS)
        self.account = self._account()
        self._buckets: KeptBuckets | None = None
        self._tables: KeptTables | None = None
        self._unwritten: list[tuple[str, dict[str, Any]]] = []

    def _account(self) -> str:
        known = self._store.get("meta", "account")
        if known is None:
            known = "".join(secrets.choice("0123456789") for _ in range(12)).encode()
            self._store.put("meta", "account", known)
            self._store.commit()
        return known.decode()

    def load(self) -> None:
        """Give moto, which is imported for it, what is kept. Raises `StateError`."""
        from emulator.storage.buckets import KeptBuckets
        from emulator.storage.tables import KeptTables

        buckets = KeptBuckets(self._store, self._files, self.account, self._say)
        tables = KeptTables(self._store, self.account)
        buckets.load()
        tables.load()
        self._buckets, self._tables = buckets, tables

    def unreadable(self, error: StateError) -> Wsgi:
        """What answers instead of services whose records can not be understood. Nothing of them is changed."""
        self._say(f"S3 and DynamoDB: {error}")

        def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
            status, headers, text = _failed(environ.get("HTTP_X_AMZ_TARGET", ""), str(error))
            start_response(status, headers)
            return [text]

        return serve

    def serve(self, application: Wsgi, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Have a request that may write served, and keep what it has changed. One at a time.

        What can not be kept is answered as an error of the service's own, and tried again with the next request.
        """
        assert self._buckets is not None
        answer: list[tuple[Any, ...]] = []
        body: bytes = environ["wsgi.input"].getvalue()
        self._buckets.touched.recording = True
        try:
            served = list(application(environ, lambda *said: answer.append(said)))
        finally:
            self._buckets.touched.recording = False
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        try:
            self._keep(operation, body)
        except OSError as error:
            self._say(f"S3 and DynamoDB: {error}")
            status, headers, text = _failed(operation, f"what this request has changed could not be kept: {error}")
            start_response(status, headers)
            return [text]
        start_response(*answer[-1])
        return served

    def _keep(self, operation: str, body: bytes) -> None:
        assert self._buckets is not None
        assert self._tables is not None
        service, _, name = operation.partition(".")
        if service.startswith("DynamoDB_"):
            self._unwritten.append((name, _request(body)))
            for each in self._unwritten:
                self._tables.write(*each)
        else:
            self._buckets.write()
        self._store.commit()
        self._unwritten.clear()
        self._buckets.touched.clear()
        self._files.collect()

    def close(self) -> None:
        """Harmless when repeated."""
        self._store.close()


def _request(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failed(operation: str, told: str) -> tuple[str, list[tuple[str, str]], bytes]:
    """In the form in which clients of either service read an error: one that they try again."""
    if operation:
        text = json.dumps({"__type": "com.amazonaws.dynamodb.v20120810#InternalServerError", "message": told}).encode()
        kind = "application/x-amz-json-1.0"
    else:
        escaped = told.replace("&", "&amp;").replace("<", "&lt;")
        text = f"<Error><Code>InternalError</Code><Message>{escaped}</Message></Error>".encode()
        kind = "application/xml"
    return "500 Internal Server Error", [("Content-Type", kind), ("Content-Length", str(len(text)))], text
