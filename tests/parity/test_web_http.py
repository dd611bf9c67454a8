"""HTTP/1.1 as it is on the wire."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from grpclib.client import Channel
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub

from tests.parity.web_kit import connection, exchange, get, read_until

if TYPE_CHECKING:
    from tests.parity.kit import Target

CLOSE = b"Host: x\r\nConnection: close\r\n"


@pytest.fixture
def site(target: Target) -> str:
    url = target.deploy("web.py").url("site")
    get(url + "/state")
    return url


@pytest.fixture
def function_id(target: Target) -> str:
    return str(target.deploy("web.py").function("site").object_id)


def seen(answer: bytes) -> dict[str, Any]:
    """What the application was told, of an answer whose body says that."""
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


@pytest.mark.row("Web", "HEAD and OPTIONS")
def test_head_has_the_length_and_no_body_and_options_reaches_the_application(site: str) -> None:
    answer = exchange(site, b"HEAD /seen HTTP/1.1\r\n" + CLOSE + b"\r\n")
    head, _, body = answer.lower().partition(b"\r\n\r\n")
    assert head.startswith(b"http/1.1 200") and b"content-length: " in head and not body
    assert seen(exchange(site, b"OPTIONS /seen HTTP/1.1\r\n" + CLOSE + b"\r\n"))["method"] == "OPTIONS"


@pytest.mark.row("Web", "100-continue")
def test_a_client_that_asks_first_is_told_to_go_on(site: str) -> None:
    with connection(site) as sock:
        sock.sendall(b"POST /seen HTTP/1.1\r\n" + CLOSE + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert b'"size": 5' in read_until(sock, b'"size": 5')


@pytest.mark.row("Web", "chunked bodies")
def test_a_chunked_body_arrives_without_its_framing(site: str) -> None:
    body = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n"
    told = seen(exchange(site, b"POST /seen HTTP/1.1\r\n" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\n" + body))
    assert told["size"] == 11
    assert "transfer-encoding" not in dict(told["headers"])


@pytest.mark.row("Web", "headers")
def test_repeated_headers_stay_apart_and_in_order_both_ways(site: str) -> None:
    answer = exchange(
        site, b"GET /seen?q=%20 HTTP/1.1\r\nA: 1\r\n" + CLOSE + b"A: 2\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n"
    )
    told = seen(answer)
    assert [value for name, value in told["headers"] if name == "a"] == ["1", "2"]
    assert [value for name, value in told["headers"] if name == "cookie"] == ["a=b", "c=d"]
    assert told["query"] == "q=%20"
    assert [line for line in answer.lower().split(b"\r\n") if line.startswith(b"x-twice")] == [
        b"x-twice: one",
        b"x-twice: two",
    ]


@pytest.mark.row("Web", "keep-alive")
def test_requests_follow_each_other_on_one_connection_also_when_they_were_sent_together(site: str) -> None:
    with connection(site) as sock:
        sock.sendall(b"".join(b"GET /seen?n=%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(3)))
        answers = b""
        while answers.count(b'"size": 0') < 3:
            answers += sock.recv(1 << 16)
    assert [answers.index(b'"n=%d"' % number) for number in range(3)] == sorted(
        answers.index(b'"n=%d"' % number) for number in range(3)
    )


@pytest.mark.row("Web", "request size limits")
def test_a_body_of_more_than_4_gib_and_a_head_without_end_are_refused(site: str) -> None:
    large = b"POST /size HTTP/1.1\r\n" + CLOSE + b"Content-Length: %d\r\n\r\n" % (4 * 1024**3 + 1)
    assert exchange(site, large).startswith(b"HTTP/1.1 413 ")
    assert exchange(site, b"GET / HTTP/1.1\r\n" + CLOSE + b"X: " + b"x" * 100_000).startswith(b"HTTP/1.1 431 ")


@pytest.mark.slow  # the runtime waits 5 s for what does not come
@pytest.mark.emulator_only("speaks the client's protocol to it, without a client")
@pytest.mark.row("Web", "408")
async def test_an_input_whose_request_never_comes_is_answered_408_by_the_runtime(
    target: Target, function_id: str
) -> None:
    scope = {"type": "http", "method": "POST", "path": "/seen", "headers": [], "query_string": b"", "root_path": ""}
    payload = api_pb2.FunctionInput(args=pickle.dumps(((scope,), {})), data_format=api_pb2.DATA_FORMAT_PICKLE)
    token = {f"x-modal-token-{part}": target.environment[f"MODAL_TOKEN_{part.upper()}"] for part in ("id", "secret")}
    address = urlsplit(target.emulator.server_url)
    async with Channel(address.hostname, address.port) as channel:
        stub = ModalClientStub(channel)
        mapped = api_pb2.FunctionMapRequest(
            function_id=function_id,
            function_call_type=api_pb2.FUNCTION_CALL_TYPE_UNARY,
            pipelined_inputs=[api_pb2.FunctionPutInputsItem(input=payload)],
        )
        called = await stub.FunctionMap(mapped, metadata=token)
        wanted = api_pb2.FunctionCallGetDataRequest(function_call_id=called.function_call_id)
        async with stub.FunctionCallGetDataOut.open(metadata=token) as stream:
            await stream.send_message(wanted, end=True)
            first = await stream.recv_message()
            await stream.cancel()
    assert first is not None
    assert api_pb2.Asgi.FromString(first.data).http_response_start.status == 408


@pytest.mark.emulator_only("real Modal speaks it")
@pytest.mark.row("Web", "HTTPS and HTTP/2")
def test_http_2_is_refused_and_not_misunderstood(site: str) -> None:
    assert exchange(site, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400 ")
