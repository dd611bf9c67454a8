"""Bodies in both directions, piece by piece, and what holds them back."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.parity.web_kit import connection, get, post, read_until, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import DeployedApp, Target

PIECE, FLOOD = 1 << 16, 10_000
"""So many pieces of so many bytes are far more than everything between an application and its reader holds (Modal's
runtime keeps a thousand messages)."""


@pytest.fixture
def site(target: Target) -> str:
    app: DeployedApp = target.deploy("web.py")
    return app.url("site")


@pytest.mark.row("Web", "streaming responses")
def test_a_piece_of_an_answer_arrives_before_the_next_is_made(site: str) -> None:
    with httpx2.stream("GET", site + "/ticks/reader", timeout=30) as response:
        pieces = response.iter_raw()
        assert [next(pieces) for _ in range(3)] == [b"tick "] * 3


@pytest.mark.row("Web", "streaming requests")
def test_the_application_reads_and_answers_while_the_client_still_sends(site: str) -> None:
    with connection(site) as sock:
        host = urlsplit(site).netloc
        sock.sendall(b"POST /pieces/ HTTP/1.1\r\nHost: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % host.encode())
        for number in range(3):
            piece = b"piece %d" % number
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert piece in read_until(sock, piece)
        sock.sendall(b"0\r\n\r\n")
        assert read_until(sock, b"0\r\n\r\n").endswith(b"0\r\n\r\n")


@pytest.mark.slow
@pytest.mark.row("Web", "back-pressure of a slow reader")
def test_a_reader_who_does_not_read_holds_the_application_back(site: str) -> None:
    with connection(site) as sock:
        sock.sendall(
            b"GET /flood/slow?pieces=%d HTTP/1.1\r\nHost: %b\r\n\r\n" % (FLOOD, urlsplit(site).netloc.encode())
        )
        made = _until_it_stands(site + "/flooded/slow")
        assert 0 < made < FLOOD / 2
        before = made
        for _ in range(64):
            assert sock.recv(1 << 20)
        until(lambda: get(site + "/flooded/slow").json() > before)


def _until_it_stands(url: str) -> int:
    """The first number that is still the same half a second later."""

    def same() -> int:
        first = int(get(url).json())
        time.sleep(0.5)
        return first if first and first == int(get(url).json()) else 0

    return int(until(same))


@pytest.mark.slow
@pytest.mark.emulator_only("looks at the emulator's memory")
@pytest.mark.row("Web", "back-pressure of a slow reader")
def test_what_a_slow_reader_has_not_taken_is_not_kept_in_the_emulator(target: Target, site: str) -> None:
    assert target.emulator
    before = _resident()
    with connection(site) as sock:
        sock.sendall(b"GET /flood/kept?pieces=%d HTTP/1.1\r\nHost: x\r\n\r\n" % FLOOD)
        _until_it_stands(site + "/flooded/kept")
        assert _resident() - before < 100 << 20


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.row("Web", "large uploads")
def test_an_upload_of_100_megabytes_arrives_whole(site: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 20)

    assert post(site + "/size", content=body()).json() == {"size": 100 << 20}


@pytest.mark.row("Web", "large uploads")
def test_an_upload_with_a_known_length_arrives_whole(site: str) -> None:
    assert post(site + "/size", content=bytes(8 << 20)).json() == {"size": 8 << 20}


@pytest.mark.slow
@pytest.mark.row("Web", "large responses")
def test_an_answer_of_100_megabytes_arrives_whole(site: str) -> None:
    assert len(get(site + "/flood/whole?pieces=1600").content) == 100 << 20


@pytest.mark.slow
@pytest.mark.row("Web", "slow uploads")
def test_an_upload_may_take_longer_than_the_runtime_waits_for_a_request(site: str) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(7):
            time.sleep(1)
            yield b"slow"

    assert post(site + "/size", content=body()).json() == {"size": 28}
