"""The ingress: every web function and Server at its addresses.

In order: a port of 127.0.0.1 for each (root path intact, no DNS: what the client's `get_web_url` returns), and on one
shared port `Host: <label>.modal.localhost` and the path prefix `/<label>/`.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.ingress.auth import refusal
from emulator.ingress.connection import ClientConnection
from emulator.ingress.cuts import break_off
from emulator.ingress.functions import FunctionSite
from emulator.ingress.moving import Moving
from emulator.ingress.routing import match
from emulator.ingress.servers import ServerSite
from emulator.ingress.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from emulator.clock import Clock
    from emulator.ingress.auth import Authorize
    from emulator.ingress.base import FunctionBackend, ServerBackend
    from emulator.ingress.cuts import Cut
    from emulator.ingress.exchange import Request

HOST = "127.0.0.1"
"""Nothing else: inputs are pickles, so who can reach an emulator can run code in it."""

SHARED, NOBODY = "#shared", ""
"""No keys: whose port is the shared one, and who has none."""

NOT_FOUND = "modal-http: invalid function call"
"""Modal's own words for an address that means nothing."""

NOTHING_YET = "modal-http: no web function has been deployed yet"

STOPPED = "modal-http: app for invoked web endpoint is stopped"


class PortTaken(Exception):
    """A port that was asked for by number is in use."""

    def __init__(self, port: int) -> None:
        super().__init__(f"port {port} of {HOST} is already in use")
        self.port = port


@dataclass
class _Site:
    """A web function or Server, as it is registered now."""

    label: str
    handler: FunctionSite | ServerSite
    requires_proxy_auth: bool
    domains: tuple[str, ...] = ()


class Ingress:
    """HTTP and WebSockets from outside to what is deployed.

    `web_port` is kept for the first public address (no Server that asks for credentials) that is reserved: the one that
    `emulator up` promises. `cut` says where the answer to a request for a key that comes now is to break off.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        authorize: Authorize,
        web_port: int = 0,
        ports: Mapping[str, int] | None = None,
        cut: Callable[[str], Cut | None] = lambda _: None,
    ) -> None:
        """`ports` are those that keys have had before: they get them again where they are free."""
        self._clock = clock
        self._cut = cut
        self._authorize = authorize
        self._web_port = web_port
        self._unclaimed: _Listener | None = None
        self._shared: _Listener | None = None
        self._sites: dict[str, _Site] = {}
        self._listeners: dict[str, _Listener] = {}
        self._retired: list[_Listener] = []
        self._ports = dict(ports or {})
        self._withheld_for: str | None = None
        self._tasks = Tasks()
        self.moving = Moving()

    @property
    def ports(self) -> dict[str, int]:
        """Every key's port, of those that are gone the last; the shared one's key is `SHARED`."""
        return self._ports | {key: listener.port for key, listener in self._listeners.items()}

    @property
    def web_key(self) -> str | None:
        """The key that has `web_port`."""
        found = (key for key, listener in self._listeners.items() if listener.port == self._web_port)
        return next(found, None)

    @contextmanager
    def web_port_for(self, key: str | None) -> Iterator[None]:
        """Meanwhile, nobody but that key gets `web_port`."""
        withheld, self._withheld_for = self._withheld_for, key or NOBODY
        try:
            yield
        finally:
            self._withheld_for = withheld

    @property
    def url(self) -> str:
        """Of the shared port."""
        if self._shared is None:
            raise RuntimeError("the ingress has not been started")
        return self._shared.url

    async def start(self, port: int = 0) -> None:
        """Open the shared port (0: any). Raises `PortTaken` or `OSError`, also for `web_port`."""
        if self._web_port:
            self._unclaimed = await self._open(None, _bind(self._web_port))
        self._shared = await _Listener.open(self._socket(SHARED, port), self._serve_shared, self._clock)
        self._ports[SHARED] = self._shared.port

    async def reserve(self, key: str, *, public: bool) -> str:
        """The URL that `key` will have once it is added; until then it answers that nothing is there yet.

        Nothing changes for a key that is known. `public`: it may have `web_port`. `remove` gives it back.
        """
        listener = self._listeners.get(key)
        if listener is None and public:
            listener = self._claim_web_port(key)
        if listener is None:
            listener = self._listeners[key] = await self._open(key, self._socket(key, 0))
            self._ports[key] = listener.port
        return listener.url

    def _claim_web_port(self, key: str) -> _Listener | None:
        if self._withheld_for not in (None, key):
            return None
        listener, self._unclaimed = self._unclaimed, None
        if listener is not None:
            listener.key = key
            self._listeners[key] = listener
        return listener

    async def add_function(
        self,
        key: str,
        *,
        label: str,
        backend: FunctionBackend,
        requires_proxy_auth: bool,
        port: int = 0,
        domains: tuple[str, ...] = (),
    ) -> str:
        """Register a web function, or swap the backend of a known `key`, and return its URL.

        `domains`: further host names under which the shared port serves it.

        A key keeps its port, also after `remove`; `port` asks for one by number and raises `PortTaken`. Requests that
        are being served finish where they began.
        """
        old = self._sites.get(key)
        results = old.handler.results if old is not None and isinstance(old.handler, FunctionSite) else {}
        site = FunctionSite(backend=backend, clock=self._clock, tasks=self._tasks, moving=self.moving, results=results)
        if self._unclaimed is not None and key not in self._listeners and port in (0, self._unclaimed.port):
            self._claim_web_port(key)
        return await self._add(key, _Site(label, site, requires_proxy_auth, domains), port)

    async def add_server(
        self, key: str, *, label: str, backend: ServerBackend, requires_proxy_auth: bool, port: int = 0
    ) -> str:
        """Register a Server; otherwise as `add_function`."""
        old = self._sites.get(key)
        sessions = old.handler.sessions if old is not None and isinstance(old.handler, ServerSite) else None
        site = ServerSite(backend=backend, clock=self._clock, tasks=self._tasks, moving=self.moving, sessions=sessions)
        return await self._add(key, _Site(label, site, requires_proxy_auth), port)

    async def remove(self, key: str) -> None:
        """Close the addresses of `key`. Requests that are being served finish."""
        site = self._sites.pop(key, None)
        if site is not None:
            site.handler.close()
        listener = self._listeners.pop(key, None)
        if listener is not None and listener.port == self._web_port:
            listener.key = None
            self._unclaimed = listener
        elif listener is not None:
            self._retire(listener)

    async def close(self) -> None:
        """Close every address and connection, and cancel what is being served."""
        for site in self._sites.values():
            site.handler.close()
        self._sites.clear()
        listeners = [*self._listeners.values(), *self._retired, self._shared, self._unclaimed]
        self._listeners.clear()
        self._retired.clear()
        self._shared = self._unclaimed = None
        for listener in listeners:
            if listener is not None:
                await listener.close()
        await self._tasks.close()

    async def _add(self, key: str, site: _Site, port: int) -> str:
        old = self._sites.get(key)
        self._sites[key] = site
        if old is not None:
            old.handler.close()
        listener = self._listeners.get(key)
        if listener is None or (port and listener.port != port):
            try:
                opened = await self._open(key, self._socket(key, port))
            except (PortTaken, OSError):
                if old is None:
                    del self._sites[key]
                raise
            if listener is not None:
                self._retire(listener)
            listener = self._listeners[key] = opened
            self._ports[key] = listener.port
        return listener.url

    def _retire(self, listener: _Listener) -> None:
        listener.retire()
        self._retired = [retired for retired in self._retired if retired.busy] + [listener]

    async def _open(self, key: str | None, sock: socket.socket) -> _Listener:
        async def serve(request: Request) -> None:
            if listener.key is None:
                request.reply.text(503, NOTHING_YET)
            else:
                await self._serve(listener.key, request)

        listener = await _Listener.open(sock, serve, self._clock)
        listener.key = key
        return listener

    def _socket(self, key: str, port: int) -> socket.socket:
        if port:
            return _bind(port)
        try:
            return _bind(self._ports.get(key, 0))
        except PortTaken:
            return _bind(0)

    async def _serve_shared(self, request: Request) -> None:
        labels = {site.label: key for key, site in self._sites.items()}
        domains = {domain: site.label for site in self._sites.values() for domain in site.domains}
        host = request.head.first(b"host") or b""
        found = match(host=host, target=request.head.target, labels=labels, domains=domains)
        if found is None:
            request.reply.text(404, NOT_FOUND)
            return
        request.head.prefix = found.prefix
        await self._serve(labels[found.label], request)

    async def _serve(self, key: str, request: Request) -> None:
        site = self._sites.get(key)
        if site is None and key in self._listeners:
            request.reply.text(503, NOTHING_YET)
            return
        if site is None:
            request.reply.text(404, STOPPED)
            return
        required = site.requires_proxy_auth and not site.handler.guards(request)
        refused = refusal(request.head.headers, required=required, authorize=self._authorize)
        if refused is not None:
            request.reply.text(401, refused)
            return
        if (cut := self._cut(key)) is not None:
            break_off(request, cut)
        await site.handler.serve(request)


class _Listener:
    """A listening socket and the connections that came in through it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.key: str | None = None
        """Of the function or server that it is for: None while it is for none."""
        self.url = f"http://{HOST}:{port}"
        self._connections: set[ClientConnection] = set()
        self._server: asyncio.Server

    @classmethod
    async def open(cls, sock: socket.socket, serve: Callable[[Request], Awaitable[None]], clock: Clock) -> _Listener:
        listener = cls(sock.getsockname()[1])
        loop = asyncio.get_running_loop()
        listener._server = await loop.create_server(
            lambda: ClientConnection(serve, listener._connections, clock), sock=sock, backlog=1024
        )
        return listener

    @property
    def busy(self) -> bool:
        """Whether it has connections."""
        return bool(self._connections)

    def retire(self) -> None:
        """Accept no more, and close each connection once it has nothing to serve."""
        self._server.close()
        for connection in list(self._connections):
            connection.close_when_idle()

    async def close(self) -> None:
        """Accept no more, and cut every connection."""
        self._server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.finished()


def _bind(port: int) -> socket.socket:
    # The protocol by number: asyncio turns Nagle off only for sockets that name it, and accepted ones inherit it.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((HOST, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(port) from error
        if error.errno == errno.EACCES:
            raise PermissionError(f"port {port} is not for ordinary users: choose one from 1024 on") from error
        raise
    sock.setblocking(False)
    return sock
