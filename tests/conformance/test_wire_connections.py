"""Connections as programs that are no SDK use them: slow, half-closed, impatient, old."""

from __future__ import annotations

import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.targets import BODY_LIMIT, needs
from tests.conformance.wire import Connection, chat, once, place_is_free

if TYPE_CHECKING:
    from tests.conformance.targets import Target
    from tests.conformance.wire import Head

pytestmark = pytest.mark.slow

PLAIN = {"stream": False}


def test_a_request_may_come_a_byte_at_a_time(target: Target) -> None:
    with Connection(target) as connection:
        for byte in connection.request(chat(target, {"tokens": 2}, **PLAIN)):
            connection.send(bytes([byte]))
        head = connection.head()
        assert head.status == 200
        assert json.loads(connection.body(head))["choices"]


def test_a_body_may_come_in_chunks_of_a_byte(target: Target) -> None:
    with Connection(target) as connection:
        body = json.dumps(chat(target, {"tokens": 2}, **PLAIN)).encode()
        head = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        connection.send(connection.head_of("POST", "/v1/chat/completions", head))
        for byte in body:
            connection.send(b"1\r\n" + bytes([byte]) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        assert connection.head().status == 200


def test_a_reader_of_one_byte_at_a_time_gets_every_byte_and_holds_back_nobody(target: Target) -> None:
    needs(target, "scripted")
    with Connection(target) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.send(slow.request(chat(target, {"tokens": 400}, max_tokens=400), Connection="close"))
        head, _ = once(target, chat(target, {"tokens": 2}, **PLAIN))
        assert head.status == 200, "meanwhile another one is answered"
        read = bytearray()
        while byte := slow.socket.recv(1):
            read += byte
    assert [int(found) for found in re.findall(rb'"content":"t(\d+) "', bytes(read))] == [*range(400)]
    assert b"data: [DONE]\n\n" in read


@pytest.mark.parametrize("stream", [False, True])
def test_pipelined_requests_are_answered_in_their_order(target: Target, stream: bool) -> None:
    needs(target, "scripted", "own-sockets")
    texts = ["first", "second", "third"]
    with Connection(target) as connection:
        bodies = [chat(target, {"text": text, "ttft": 0.1}, stream=stream) for text in texts]
        connection.send(b"".join(connection.request(body) for body in bodies))
        for text in texts:
            head = connection.head()
            assert head.status == 200
            assert f'"content":"{text}"'.encode() in connection.body(head)


def test_a_client_may_ask_whether_to_send_its_body(target: Target) -> None:
    needs(target, "own-sockets")
    with Connection(target) as connection:
        whole = connection.request(chat(target, {"tokens": 2}, **PLAIN), Expect="100-continue")
        head, _, body = whole.partition(b"\r\n\r\n")
        connection.send(head + b"\r\n\r\n")
        assert connection.head().status == 100
        connection.send(body)
        assert connection.head().status == 200


def test_a_client_that_asks_before_sending_too_much_is_spared_it(target: Target) -> None:
    needs(target, "small-bodies", "own-sockets")
    with Connection(target) as connection:
        told = {"Content-Type": "application/json", "Content-Length": str(BODY_LIMIT + 1), "Expect": "100-continue"}
        connection.send(connection.head_of("POST", "/v1/chat/completions", told))
        head = connection.head()
        assert (head.status, json.loads(connection.body(head))["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_before_all_of_it_was_read(target: Target, chunked: bool) -> None:
    needs(target, "small-bodies")
    with Connection(target) as connection:
        length = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(100 * BODY_LIMIT)}
        told = {"Content-Type": "application/json", **length}
        connection.send(connection.head_of("POST", "/v1/chat/completions", told))
        if chunked:
            piece = b"x" * 65536
            for _ in range(BODY_LIMIT // len(piece) + 1):
                connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        head = connection.head()  # though the client has not sent it all
        assert (head.status, json.loads(connection.body(head))["error"]["code"]) == (413, "request_too_large")


MISTAKES: dict[str, tuple[int, dict[str, Any], dict[str, str | None]]] = {
    "a wrong value": (400, {"temperature": 9}, {}),
    "an unknown model": (404, {"model": "no/such-model"}, {}),
    "a wrong media type": (415, {}, {"Content-Type": "application/xml"}),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_connection_is_used_again_after_an_error(target: Target, mistake: str) -> None:
    status, more, headers = MISTAKES[mistake]
    with Connection(target) as connection:
        named = {name.replace("-", "_"): value for name, value in headers.items()}
        head = connection.ask(chat(target, **more), **named)
        assert head.status == status, connection.body(head)
        assert set(json.loads(connection.body(head))["error"]) == {"message", "type", "param", "code"}
        assert_serves_on_or_closes(connection, head)


def test_a_connection_is_used_again_after_a_wrong_key(target: Target) -> None:
    needs(target, "keys")
    with Connection(target) as connection:
        head = connection.ask(chat(target), Authorization="Bearer sk-wrong")
        assert (head.status, bool(connection.body(head))) == (401, True)
        assert_serves_on_or_closes(connection, head)


def assert_serves_on_or_closes(connection: Connection, head: Head) -> None:
    """A server that will not read on says so, and closes: a client then never loses a request to a reset."""
    if head.headers.get("connection") == "close":
        assert connection.rest() == b""
    else:
        assert connection.ask(chat(connection.target, {"tokens": 2}, **PLAIN)).status == 200


def test_a_413_can_be_read_by_who_sends_on_and_the_connection_serves_or_closes(target: Target) -> None:
    needs(target, "small-bodies")
    with Connection(target) as connection:
        head = connection.ask(b"x" * (2 * BODY_LIMIT))
        assert head.status == 413
        assert json.loads(connection.body(head))["error"]["code"] == "request_too_large"
        assert_serves_on_or_closes(connection, head)


def test_a_stream_leaves_its_connection_for_the_next_request(target: Target) -> None:
    with Connection(target) as connection:
        for _ in range(3):
            head = connection.ask(chat(target, {"tokens": 2}))
            assert b"[DONE]" in connection.body(head)


def test_an_http_1_0_client_gets_its_answer_unchunked_and_the_connection_closed(target: Target) -> None:
    needs(target, "own-sockets")
    for body, end in ((chat(target, {"tokens": 2}), b"data: [DONE]\n\n"), (chat(target, {}, **PLAIN), b"}")):
        with Connection(target) as connection:
            connection.send(connection.request(body, version="1.0"))
            head = connection.head()
            assert (head.status, "transfer-encoding" in head.headers) == (200, False)
            assert connection.rest().endswith(end)


def test_the_case_of_header_names_and_of_the_scheme_does_not_matter(target: Target) -> None:
    with Connection(target) as connection:
        key = f"bEARER {target.api_key}"
        told = {"Authorization": None, "aUTHORIZATION": key, "x-REQUEST-id": "mine", "CONTENT-type": "Application/JSON"}
        body = json.dumps(chat(target, {"tokens": 2}, **PLAIN)).encode()
        head_of = connection.head_of("POST", "/v1/chat/completions", told | {"CONTENT-LENGTH": str(len(body))})
        connection.send(head_of + body)
        head = connection.head()
        assert (head.status, head.headers["x-request-id"]) == (200, "mine")


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("trace-1.a:b/c=d+e", True), ("x" * 128, True), ("x" * 129, False), ("has spaces", False), ("<script>", False)],
)
def test_a_request_id_is_echoed_where_it_is_sane(target: Target, given: str, echoed: bool) -> None:
    with Connection(target) as connection:
        for head, body in _answers(connection, target, given):
            told = head.headers["x-request-id"]
            assert (told == given) is echoed, body
            assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{1,128}", told)


def _answers(connection: Connection, target: Target, request_id: str) -> Any:
    for body in (chat(target, {"tokens": 1}, **PLAIN), chat(target, {"tokens": 1}), b"{"):
        head = connection.ask(body, X_Request_Id=request_id)
        yield head, connection.body(head)
    head = connection.get("/v1/nothing", X_Request_Id=request_id)
    yield head, connection.body(head)


def test_how_long_it_took_is_on_every_answer(target: Target) -> None:
    with Connection(target) as connection:
        for path in ("/v1/models", "/v1/nothing"):
            head = connection.get(path)
            connection.body(head)
            assert int(head.headers["openai-processing-ms"]) >= 0


def test_what_is_no_http_is_refused(target: Target) -> None:
    needs(target, "own-sockets")
    with Connection(target) as connection:
        connection.send(b"what is this?\r\n\r\n")
        assert b" 400 " in connection.rest().split(b"\r\n")[0]


def test_a_client_that_closes_its_side_after_asking_has_left(target: Target) -> None:
    """HTTP would allow an answer. But the end of a caller's sending is how a caller's leaving looks, and an engine that
    works for nobody is the costlier mistake: so it is not answered, and its engine is freed."""
    needs(target, "single", "own-sockets")
    with Connection(target) as connection:
        connection.send(connection.request(chat(target, {"ttft": 60}, model="single")))
        time.sleep(0.3)
        connection.socket.shutdown(socket.SHUT_WR)
        assert b"data:" not in connection.rest()
    place_is_free(target, left=time.monotonic())
