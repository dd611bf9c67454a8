"""S3 and DynamoDB on one loopback port, by moto: made with an emulator, gone with it, and no emulator sees another's.

moto is imported when the first request comes (or on `preload`), because that takes a second and most apps never ask.
moto's stores are global to the process and its writes are not atomic; so every emulator is an account of its own (with
its own bucket names, which moto holds to be global), and requests that may write are served one at a time.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import selectors
import socket
import threading
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from emulator.faults.aws import with_faults
from emulator.faults.plans import Plans
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from werkzeug.serving import BaseWSGIServer

    from emulator.storage.kept_aws import KeptAws

Wsgi = Any
"""A WSGI application: (environ, start_response) -> iterable of bytes."""

REGION = "us-east-1"
AWS_PORT = "#aws"
"""Under which its port is kept, beside the labels of web addresses."""
_POLL = 0.02
_BACKLOG = 128


class Aws:
    """S3 and DynamoDB of one emulator, on 127.0.0.1. Use as a context manager, or `start` and `close`."""

    def __init__(
        self,
        *,
        port: int = 0,
        usual_port: int = 0,
        preload: bool = False,
        plans: Plans | None = None,
        kept: KeptAws | None = None,
    ) -> None:
        """Where no port is asked for, the usual one is taken if it is free, else any. `kept`: over restarts, and closed
        with this."""
        self._port = port
        self._kept = kept
        self._usual_port = usual_port
        self._plans = plans or Plans()
        self._preload = preload
        self._account = kept.account if kept is not None else "".join(secrets.choice("0123456789") for _ in range(12))
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._server: BaseWSGIServer | None = None
        self._wake, self._woken = socket.socketpair()
        self._closing = threading.Event()
        self._change = threading.Lock()
        self._error: BaseException | None = None

    def start(self) -> None:
        """Listen: requests are accepted from now on. Raises `OSError` when the port is taken."""
        try:
            listener = _bound(self._port or self._usual_port)
        except OSError:
            if self._port or not self._usual_port:
                raise
            listener = _bound(0)
        listener.listen(_BACKLOG)
        self._listener = listener
        self._thread = threading.Thread(target=self._serve, name="emulator-aws", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port of 127.0.0.1, once started."""
        if self._listener is None:
            raise RuntimeError("not started")
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """Variables with which boto3 and its kin reach this and nothing else, and find no one's real credentials."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "emulator",
            "AWS_SECRET_ACCESS_KEY": "emulator",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def reset(self) -> None:
        """Forget everything stored."""
        if self._server is not None:  # else moto was never asked, nor loaded
            forget(self._account)

    def close(self) -> None:
        """Stop serving and forget everything stored. Waits for the server's thread; safe to call twice."""
        with self._change:
            self._closing.set()
            self._wake.close()
            if self._server is not None:
                self._server.shutdown()
        if self._thread is not None:
            self._thread.join()
        if self._listener is not None:
            self._listener.close()
        self._woken.close()
        if self._kept is not None:
            self._kept.close()

    def __enter__(self) -> Aws:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self) -> None:
        assert self._listener is not None
        if not self._preload and not self._first_request():
            return
        server = make_server(self._listener, self._account, self._plans, self._closing, self._kept)
        with self._change:
            if not self._closing.is_set():
                self._server = server
        try:
            if self._server is not None:
                server.serve_forever(poll_interval=_POLL)
        finally:
            server.server_close()
            forget(self._account)

    def _first_request(self) -> bool:
        """Wait for a connection, without taking it. False when closed before one came."""
        assert self._listener is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            ready = [key.fileobj for key, _ in selector.select()]
        return self._woken not in ready


def _bound(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    return listener


def make_server(
    listener: socket.socket, account: str, plans: Plans, closing: threading.Event, kept: KeptAws | None = None
) -> BaseWSGIServer:
    """moto's server on an open listener, for one account. Imports moto: about a second."""
    from moto.moto_server import werkzeug_app as moto_server
    from moto.s3.models import s3_backends
    from werkzeug.serving import make_server as make_wsgi_server

    class QuietHandler(moto_server.MotoRequestHandler):
        def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
            """Not a line for every request in the developer's terminal."""

    # Without this it lets every website read; a bucket's own CORS rules are honoured all the same.
    settings: Any = moto_server
    settings.DISABLE_GLOBAL_CORS = True
    owners: Any = s3_backends.bucket_accounts
    if not isinstance(owners, BucketOwners):
        s3_backends.bucket_accounts = owners = BucketOwners()  # type: ignore[assignment]
    moto = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
    application = one_account(moto, account, owners, kept)
    if kept is not None:
        try:
            with owners.seen_by(account):
                kept.load()
        except StateError as error:
            application = kept.unreadable(error)
    application = local_only(with_faults(application, plans, closing))
    host, port = listener.getsockname()
    return make_wsgi_server(host, port, application, threaded=True, request_handler=QuietHandler, fd=listener.fileno())


def one_account(application: Wsgi, account: str, owners: BucketOwners, kept: KeptAws | None = None) -> Wsgi:
    """Serve every request as that account's, and those that may write one at a time; what they change is kept."""
    writing = threading.Lock()

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = account
        with owners.seen_by(account):
            if environ["REQUEST_METHOD"] in ("GET", "HEAD"):  # of S3 alone: DynamoDB's are all POSTs
                return list(application(environ, start_response))
            # Whole before the lock: a caller who sends slowly must not hold everybody else up.
            environ["wsgi.input"] = io.BytesIO(_body(environ))
            with writing:
                if kept is not None:
                    return kept.serve(application, environ, start_response)
                return list(application(environ, start_response))

    return serve


def local_only(application: Wsgi) -> Wsgi:
    """Refuse what a website sends through the developer's browser, and moto's own administration."""

    def serve(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if (answer := _refusal(environ)) is None:
            served: Iterable[bytes] = application(environ, start_response)
            return served
        status, text = answer
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text.encode()]

    return serve


def _refusal(environ: dict[str, Any]) -> tuple[str, str] | None:
    """Status and text for a request that is not served. The host too: a website's name may lead to 127.0.0.1."""
    if environ.get("PATH_INFO", "").startswith("/moto-api"):
        return "404 Not Found", "there is no /moto-api here\n"
    origin = environ.get("HTTP_ORIGIN")
    if not _is_local(f"http://{environ.get('HTTP_HOST', '')}") or not (origin is None or _is_local(origin)):
        return "403 Forbidden", "only programs and pages of this machine are served\n"
    return None


def _is_local(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return host in ("127.0.0.1", "::1", "localhost") or host.endswith(".localhost")


def _body(environ: dict[str, Any]) -> bytes:
    """All of it: of a chunked one the server knows the end."""
    source = environ["wsgi.input"]
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", ""):
        return bytes(source.read())
    return bytes(source.read(int(environ.get("CONTENT_LENGTH") or 0)))


class BucketOwners(MutableMapping[str, Any]):
    """moto's map from bucket to owner, which is one for the whole process, as one map for each account.

    Outside of `seen_by` it is one map for everybody else who uses moto in this process.
    """

    def __init__(self) -> None:
        self._maps: dict[str, dict[str, Any]] = {}
        self._current = threading.local()

    @contextlib.contextmanager
    def seen_by(self, account: str) -> Iterator[None]:
        """What this thread sees meanwhile is that account's map."""
        self._current.account = account
        try:
            yield
        finally:
            self._current.account = ""

    def drop(self, account: str) -> None:
        self._maps.pop(account, None)

    def _map(self) -> dict[str, Any]:
        return self._maps.setdefault(getattr(self._current, "account", ""), {})

    def __getitem__(self, bucket: str) -> Any:
        return self._map()[bucket]

    def __setitem__(self, bucket: str, owner: Any) -> None:
        self._map()[bucket] = owner

    def __delitem__(self, bucket: str) -> None:
        del self._map()[bucket]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._map()))

    def __len__(self) -> int:
        return len(self._map())


def forget(account: str) -> None:
    """Drop all that an account stored. (moto's own `reset` of a store would close every account's objects.)"""
    from moto.dynamodb.models import dynamodb_backends
    from moto.s3.models import s3_backends

    if account in s3_backends:
        for store in s3_backends.pop(account).values():
            for bucket in store.buckets.values():
                for version in [each for _, versions in bucket.keys.iterlists() for each in versions]:
                    if hasattr(version, "dispose"):  # which a delete marker has not
                        version.dispose()  # closes its temporary file
    dynamodb_backends.pop(account, None)
    owners: Any = s3_backends.bucket_accounts
    if isinstance(owners, BucketOwners):
        owners.drop(account)
