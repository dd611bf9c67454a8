"""Tunnels: ports of this machine's 127.0.0.1 that lead to ports of a Sandbox, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from modal_proto import api_pb2

from emulator.containers.forward import pipe_both

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

HOST = "127.0.0.1"
_VALID = datetime.timedelta(days=30)


class Certificate:
    """What encrypted tunnels show: made for this emulator alone, when it is first needed, and signed by itself."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path = path
        self._say = say
        self._contexts: dict[bool, ssl.SSLContext] = {}

    def context(self, *, h2: bool) -> ssl.SSLContext:
        if not self._path.exists():
            write_certificate(self._path)
            self._say(f"encrypted tunnels show a certificate of this emulator's own: SSL_CERT_FILE={self._path}")
        if h2 not in self._contexts:
            made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            made.load_cert_chain(self._path)
            made.set_alpn_protocols(["h2"] if h2 else ["http/1.1"])
            self._contexts[h2] = made
        return self._contexts[h2]


def write_certificate(path: Path) -> None:
    """A key and a certificate for this machine's loopback, in one file that is its owner's alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Modal emulator")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST)), x509.DNSName("localhost")]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )


class Tunnel:
    """One port of a Sandbox. `dial` connects to it, and each connection is one use of the Sandbox."""

    def __init__(
        self,
        spec: api_pb2.PortSpec,
        certificate: Certificate,
        dial: Callable[[int], Awaitable[socket.socket]],
        in_use: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._spec = spec
        self._certificate = certificate
        self._dial = dial
        self._in_use = in_use
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()
        self.data = api_pb2.TunnelData(container_port=spec.port)

    async def listen(self) -> None:
        """Open its ports: with TLS always, and without if that was asked for."""
        context = self._certificate.context(h2=self._spec.tunnel_type == api_pb2.TUNNEL_TYPE_H2)
        self.data.host, self.data.port = HOST, await self._serve(context)
        if self._spec.unencrypted:
            self.data.unencrypted_host, self.data.unencrypted_port = HOST, await self._serve(None)

    async def _serve(self, context: ssl.SSLContext | None) -> int:
        server = await asyncio.start_server(self._connected, HOST, 0, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with self._in_use(), contextlib.suppress(OSError):
                inside = await asyncio.open_connection(sock=await self._dial(self._spec.port))
                await pipe_both((reader, writer), inside)
        except asyncio.CancelledError:
            writer.transport.abort()  # the Sandbox has ended
        finally:
            self._open.discard(task)
            writer.close()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
