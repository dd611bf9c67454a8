"""Requests to Servers: who may ask, which container answers, and that nothing is changed on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parity.web_kit import connection, exchange, get, proxy_token, read_until, until_up

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target

pytestmark = pytest.mark.since("1.6")  # whose `app.server` takes what it documents


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("servers.py")


@pytest.fixture
def opened(app: DeployedApp) -> str:
    """The URL of a Server that anybody may ask, once it is up."""
    url = str(app.server("Open").get_url())
    until_up(url)
    return url


@pytest.mark.row("Servers", "app.server")
def test_a_server_without_a_container_answers_503_and_starts_one(app: DeployedApp) -> None:
    url = str(app.server("Fresh").get_url())
    assert get(url).status_code == 503
    assert until_up(url).text.startswith("ta-")


@pytest.mark.row("Servers", "get_url")
def test_a_server_has_one_url(app: DeployedApp, opened: str) -> None:
    assert app.server("Open").get_url() == opened
    assert get(opened + "/head").text.startswith("GET /head HTTP/1.1\r\n")


@pytest.mark.row("Servers", "proxy auth")
def test_a_server_asks_for_a_proxy_token_unless_it_says_otherwise(target: Target, app: DeployedApp) -> None:
    url = str(app.server("private").get_url())
    refused = get(url)
    assert (refused.status_code, refused.text) == (401, "modal-http: missing credentials for proxy authorization\n")
    key, secret = proxy_token(target)
    told = until_up(url + "/head", headers={"Modal-Key": key, "Modal-Secret": secret}).text.lower()
    assert key.lower() not in told and "modal-" not in told
    assert get(url, headers={"Authorization": f"Bearer {key}.{secret}"}).status_code == 200


@pytest.mark.row("Servers", "port")
def test_a_server_listens_on_the_port_that_it_names(target: Target, app: DeployedApp) -> None:
    key, secret = proxy_token(target)
    url = str(app.server("private").get_url())
    assert until_up(url, headers={"Modal-Key": key, "Modal-Secret": secret}).text.startswith("ta-")


@pytest.mark.row("Servers", "max_concurrency")
def test_requests_above_max_concurrency_are_answered_429(opened: str) -> None:
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(get, opened + "/slow/1") for _ in range(3)]
        assert sorted(one.result().status_code for one in asked) == [200, 200, 429]
    assert get(opened).status_code == 200


@pytest.mark.row("Servers", "bytes untouched")
def test_heads_and_bodies_arrive_as_the_server_wrote_them(opened: str) -> None:
    answer = exchange(opened, b"GET /exact HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[:4] == [b"HTTP/1.1 209 Quite", b"X-CaSe: KeEp", b"x-twice: 1", b"X-Twice: 2"]
    assert body == b"\x00\xff\r\n"


@pytest.mark.row("Servers", "SSE")
def test_an_event_arrives_before_the_next_is_written(opened: str) -> None:
    with connection(opened) as sock:
        sock.sendall(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
        for number in range(3):
            event = b"data: %d\n\n" % number
            assert event in read_until(sock, event)
            sock.sendall(b"x")  # only now may it write the next
        assert read_until(sock, b"0\r\n\r\n").endswith(b"0\r\n\r\n")


@pytest.mark.row("Servers", "WebSockets")
def test_a_websockets_bytes_pass_as_they_are(opened: str) -> None:
    with connection(opened) as raw:
        raw.sendall(
            b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert read_until(raw, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        odd = b"\x81\x05hello\xff\x00 no frame at all" * 10_000
        raw.sendall(odd)
        echoed = b""
        while len(echoed) < len(odd):
            echoed += raw.recv(1 << 16)
        assert echoed == odd
