"""The connections to engines: what they take for HTTP, when they are used again, and that there are not too many."""

from __future__ import annotations

import asyncio
import re
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import web.upstream
from tests.ports import free_port
from tests.web.conftest import until
from tests.web.doubles import HandClock
from web.answer import ConnectionBroken, Whole
from web.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from web.answer import Answer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class RawEngine:
    """Answers each request with the next of `answers` (the last for ever), verbatim; closes after any of `closing`."""

    def __init__(self) -> None:
        self.answers = [OK]
        self.closing: set[bytes] = set()
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                assert length is not None
                self.requests.append(head + await reader.readexactly(int(length[1])))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
                if answer in self.closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@pytest.fixture
async def engine() -> AsyncIterator[RawEngine]:
    engine = RawEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    yield engine
    server.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
async def upstream(clock: HandClock) -> AsyncIterator[Upstream]:
    upstream = Upstream(clock=clock)
    yield upstream
    await upstream.close()


async def ask(upstream: Upstream, engine: RawEngine, body: bytes = b"{}", **headers: str) -> Answer:
    return await upstream.post(f"http://127.0.0.1:{engine.port}/v1/chat", body=body, headers=headers)


async def body_of(answer: Answer) -> bytes:
    async with asyncio.timeout(20):
        return await Whole(answer).read()


async def test_a_request_is_http_as_an_engine_expects_it(upstream: Upstream, engine: RawEngine) -> None:
    answer = await ask(upstream, engine, b'{"x": 1}', Authorization="Bearer key")
    assert (answer.status, await body_of(answer)) == (200, b"ok")
    head, _, body = engine.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat HTTP/1.1"
    assert f"Host: 127.0.0.1:{engine.port}" in lines
    assert {"Content-Type: application/json", "Content-Length: 8", "Authorization: Bearer key"} <= set(lines)
    assert body == b'{"x": 1}'


async def test_a_header_cannot_smuggle_another(upstream: Upstream, engine: RawEngine) -> None:
    for value in ("a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\0"):
        with pytest.raises(ValueError, match="line break"):
            await ask(upstream, engine, Affinity=value)
    assert engine.requests == []


async def test_a_connection_serves_again_once_its_answer_is_over(upstream: Upstream, engine: RawEngine) -> None:
    for _ in range(3):
        await body_of(await ask(upstream, engine))
    assert engine.connections == 1


async def test_requests_at_once_have_connections_of_their_own(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"]
    first, second = await ask(upstream, engine), await ask(upstream, engine)
    assert engine.connections == 2
    first.close()
    second.close()
    await until(lambda: engine.open == 0)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
     b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"],
    ids=["Connection: close", "HTTP/1.0"],
)  # fmt: skip
async def test_a_connection_that_is_not_to_last_serves_once(
    upstream: Upstream, engine: RawEngine, answer: bytes
) -> None:
    engine.answers = [answer]
    for _ in range(2):
        assert await body_of(await ask(upstream, engine)) == b"ok"
    assert engine.connections == 2
    await until(lambda: engine.open == 0)
    assert not upstream._idle, "an address that nothing is kept for is forgotten"


async def test_an_idle_connection_is_not_trusted_for_long(
    upstream: Upstream, engine: RawEngine, clock: HandClock
) -> None:
    await body_of(await ask(upstream, engine))
    clock.advance(web.upstream.IDLE_SECONDS + 1)
    await body_of(await ask(upstream, engine))
    assert engine.connections == 2
    await until(lambda: engine.open == 1)


async def test_a_body_without_a_length_lasts_until_the_connection_ends(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [b"HTTP/1.1 200 OK\r\n\r\nall of it"]
    engine.closing = set(engine.answers)
    assert await body_of(await ask(upstream, engine)) == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"],
    ids=["of a length", "chunked"],
)  # fmt: skip
async def test_a_body_that_is_cut_is_broken(upstream: Upstream, engine: RawEngine, answer: bytes) -> None:
    engine.answers, engine.closing = [answer], {answer}
    with pytest.raises(ConnectionBroken):
        await body_of(await ask(upstream, engine))


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 70_000 + b"\r\n\r\n",
     b"HTTP/1.1 200 OK\r\n" + b"X-Many: x\r\n" * 10_000 + b"\r\n"],
    ids=["no HTTP", "a long header", "many headers"],
)  # fmt: skip
async def test_what_is_no_answer_breaks_its_connection_alone(
    upstream: Upstream, engine: RawEngine, answer: bytes
) -> None:
    engine.answers = [answer, OK]
    with pytest.raises(ConnectionBroken):
        await ask(upstream, engine)
    assert await body_of(await ask(upstream, engine)) == b"ok"


async def test_an_engine_that_says_nothing_before_it_closes_is_broken(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [b""]
    engine.closing = {b""}
    with pytest.raises(ConnectionBroken):
        await ask(upstream, engine)


async def test_what_is_said_before_the_answer_is_passed_over(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [b"HTTP/1.1 103 Early Hints\r\nX-Hint: x\r\n\r\n" + OK]
    answer = await ask(upstream, engine)
    assert (answer.status, await body_of(answer)) == (200, b"ok")
    assert "x-hint" not in answer.headers


async def test_what_comes_unasked_ends_the_connection(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [OK + OK, OK]
    await body_of(await ask(upstream, engine))
    await body_of(await ask(upstream, engine))
    assert engine.connections == 2


async def test_chunks_of_one_packet_are_heard_as_one_piece(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n3\r\ndef\r\n0\r\n\r\n"
    ]
    answer = await ask(upstream, engine)
    assert await body_of(answer) == b"abcdef"
    assert answer.reads == 1


async def test_nobody_there_is_told_from_somebody_who_hangs_up(upstream: Upstream) -> None:
    with pytest.raises(web.upstream.NotConnected):
        await upstream.post(f"http://127.0.0.1:{free_port()}/", body=b"", headers={})


async def test_whoever_stops_waiting_for_an_answer_cuts_the_connection(upstream: Upstream, engine: RawEngine) -> None:
    engine.answers = [b""]
    asking = asyncio.create_task(ask(upstream, engine))
    await until(lambda: engine.requests)
    asking.cancel()
    await until(lambda: engine.open == 0)


async def test_there_are_never_more_connections_than_allowed(
    monkeypatch: pytest.MonkeyPatch, clock: HandClock, engine: RawEngine
) -> None:
    monkeypatch.setattr(web.upstream, "MOST_CONNECTIONS", 2)
    upstream = Upstream(clock=clock)
    engine.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"]
    first, _ = await ask(upstream, engine), await ask(upstream, engine)
    third = asyncio.create_task(ask(upstream, engine))
    await asyncio.sleep(0)
    assert engine.connections == 2
    first.close()
    (await third).close()
    assert engine.connections == 3


async def test_an_answer_that_was_let_go_gives_its_connection_back_or_loses_it(
    upstream: Upstream, engine: RawEngine, clock: HandClock
) -> None:
    engine.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", OK]
    upstream.let_go(await ask(upstream, engine))
    clock.advance(web.upstream.SETTLE_SECONDS + 1)
    await body_of(await ask(upstream, engine))
    await until(lambda: engine.open == 1)
    assert engine.connections == 2


def certificate(folder: Path) -> Path:
    """A key and a certificate of its own for localhost, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "localhost.pem"
    file.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return file


async def test_tls_is_spoken_with_who_is_trusted_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upstream: Upstream
) -> None:
    file = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(file)
    engine = RawEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
    with pytest.raises(web.upstream.NotConnected, match="certificate"):
        await upstream.post(url, body=b"{}", headers={})
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    trusting = Upstream(clock=HandClock())
    for _ in range(2):
        assert await body_of(await trusting.post(url, body=b"{}", headers={})) == b"ok"
    assert len(engine.requests) == 2
    assert engine.connections == 1, "the second request came over the first one's connection"
    await trusting.close()
    server.close()


async def test_a_connection_that_is_made_in_the_moment_in_which_nobody_wants_it_any_more_is_closed(
    engine: RawEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream = Upstream(clock=HandClock())
    loop = asyncio.get_running_loop()
    connect = loop.create_connection
    made = asyncio.Event()

    async def and_leave(*arguments: Any, **options: Any) -> Any:
        connection = await connect(*arguments, **options)
        await until(lambda: engine.open)
        loop.call_soon(asked.cancel)  # before the task that waits for this one is told
        made.set()
        return connection

    monkeypatch.setattr(loop, "create_connection", and_leave)
    asked = asyncio.create_task(upstream.ask(f"http://127.0.0.1:{engine.port}/x", body=b"{}", headers={}))
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert made.is_set()
    assert not engine.requests
    await until(lambda: not engine.open)
    await upstream.close()
