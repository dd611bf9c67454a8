"""WebSockets to web functions, with a real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.parity.web_kit import get, until

if TYPE_CHECKING:
    from tests.parity.kit import Target

MESSAGE = 2 << 20
"""Bytes: the largest that Modal takes."""


@pytest.fixture
def site(target: Target) -> str:
    return target.deploy("web.py").url("site")


@pytest.fixture
def socket(site: str) -> str:
    return site.replace("http", "ws", 1) + "/echo"


@pytest.mark.row("Web", "WebSockets")
def test_text_and_bytes_go_both_ways_and_stay_what_they_are(socket: str) -> None:
    with connect(socket, open_timeout=30) as client:
        for message in ("héllo", b"\x00\xff", "", b""):
            client.send(message)
            assert client.recv(timeout=30) == message
        assert client.subprotocol is None


@pytest.mark.row("Web", "WebSocket subprotocols")
def test_the_application_chooses_among_the_subprotocols_that_are_offered(socket: str) -> None:
    offered = [Subprotocol("first.v1"), Subprotocol("second.v1")]
    with connect(socket, subprotocols=offered, open_timeout=30) as client:
        assert client.subprotocol == "second.v1"


@pytest.mark.row("Web", "WebSocket messages")
def test_a_message_of_2_mib_passes_and_a_larger_one_closes_the_socket(socket: str) -> None:
    with connect(socket, open_timeout=30, max_size=None) as client:
        client.send(bytes(MESSAGE))
        assert client.recv(timeout=30) == bytes(MESSAGE)
        with pytest.raises(ConnectionClosed) as closed:
            client.send(bytes(MESSAGE + 1))  # which is refused before all of it has gone
            client.recv(timeout=30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1009


@pytest.mark.row("Web", "WebSocket close codes")
def test_the_code_and_reason_of_either_side_reach_the_other(site: str, socket: str) -> None:
    with connect(socket, open_timeout=30) as client:
        client.send("close")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=30)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")
    with connect(socket, open_timeout=30) as client:
        client.close(4007)
    until(lambda: "socket 4007" in get(site + "/left").json())


@pytest.mark.row("Web", "WebSocket close codes")
def test_an_application_that_fails_closes_with_1011(socket: str) -> None:
    with connect(socket, open_timeout=30) as client:
        client.send("fail")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=30)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1011


@pytest.mark.row("Web", "WebSocket refusals")
def test_a_socket_that_is_not_accepted_is_a_403(socket: str) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(socket.replace("echo", "refused"), open_timeout=30):
        pass
    assert refused.value.response.status_code == 403
