"""Addresses: a port for each, a host name, a path; redeploys keep them. And which container a session gets."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.ingress.balance import rendezvous
from emulator.ingress.ingress import PortTaken
from tests.emulator.ingress_kit import FakeFunction, FakeServer, FakeTarget, exchange, raw, read_head, running, until
from tests.ports import free_port


def saying(text: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(
            {"type": "http.response.body", "body": text + b" " + scope["root_path"].encode() + b" " + scope["raw_path"]}
        )

    return app


async def add(ingress: Any, key: str, app: Any, **options: Any) -> str:
    options = {"label": f"app-{key}", "requires_proxy_auth": False, **options}
    return await ingress.add_function(key, backend=FakeFunction(app), **options)


async def get(url: str, **headers: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(url, headers=headers) as response:
        return response.status, await response.text()


async def test_a_function_answers_on_its_own_port_by_its_host_name_and_under_its_path() -> None:
    async with running() as ingress:
        one = await add(ingress, "one", saying(b"1"))
        two = await add(ingress, "two", saying(b"2"))
        assert one != two
        assert await get(one + "/a") == (200, "1  /a")
        assert await get(two + "/a") == (200, "2  /a")
        assert await get(ingress.url + "/a", Host="app-one.modal.localhost:1") == (200, "1  /a")
        assert await get(ingress.url + "/app-two/a") == (200, "2 /app-two /app-two/a")
        assert await get(ingress.url + "/app-two") == (200, "2 /app-two /app-two")
        assert await get(ingress.url + "/nothing") == (404, "modal-http: invalid function call\n")
        assert (await get(ingress.url + "/app-one", Host="other.modal.localhost"))[0] == 404


async def test_a_server_under_its_path_sees_its_own_root() -> None:
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    target = await FakeTarget("ta-1", keep).start()
    async with running() as ingress:
        await ingress.add_server("s", label="app-s", backend=FakeServer(target), requires_proxy_auth=False)
        await get(ingress.url + "/app-s/v1?x=1")
        await get(ingress.url + "/app-s?x=1")
    assert heads[0].startswith(b"GET /v1?x=1 HTTP/1.1\r\n")
    assert b"X-Forwarded-Prefix: /app-s\r\n" in heads[0]
    assert heads[1].startswith(b"GET /?x=1 HTTP/1.1\r\n")


async def test_a_redeploy_keeps_the_port_and_lets_requests_finish_on_the_old_one() -> None:
    go = asyncio.Event()

    async def old(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await saying(b"old")(scope, receive, send)

    async with running() as ingress:
        url = await add(ingress, "fn", old)
        reader, writer = await raw(url, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await until(lambda: ingress._tasks._tasks)
        assert await add(ingress, "fn", saying(b"new")) == url
        assert await get(url) == (200, "new  /")
        go.set()
        assert b"old" in await reader.read()
        writer.close()


async def test_a_key_that_comes_back_gets_its_port_again() -> None:
    async with running() as ingress:
        url = await add(ingress, "fn", saying(b"1"))
        await ingress.remove("fn")
        with pytest.raises(aiohttp.ClientConnectorError):
            await get(url)
        assert await add(ingress, "fn", saying(b"2")) == url
        assert await get(url) == (200, "2  /")


async def test_the_web_port_is_held_from_the_start_and_goes_to_the_first_web_function() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with running(web_port=port) as ingress:
        assert await get(url) == (503, "modal-http: no web function has been deployed yet\n")
        server = FakeServer()
        assert await ingress.add_server("s", label="s", backend=server, requires_proxy_auth=False) != url
        assert await add(ingress, "one", saying(b"1")) == url
        assert await add(ingress, "two", saying(b"2")) != url
        assert await get(url) == (200, "1  /")
        await ingress.remove("one")
        assert (await get(url))[0] == 503
        assert await add(ingress, "renamed", saying(b"3")) == url


async def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1"):
            async with running(web_port=port):
                pass
        async with running() as ingress:
            with pytest.raises(PortTaken, match=str(port)):
                await add(ingress, "fn", saying(b"1"), port=port)
            assert await get(ingress.url + "/app-fn") == (404, "modal-http: invalid function call\n")
            assert (await get(await add(ingress, "fn", saying(b"1"))))[0] == 200


async def test_a_port_that_a_user_may_not_open_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(sock: socket.socket, address: tuple[str, int]) -> None:
        if address[1] == 80:
            raise PermissionError(errno.EACCES, "Permission denied")
        real(sock, address)

    real = socket.socket.bind
    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(PermissionError, match="port 80 is not for ordinary users: choose one from 1024 on"):
        async with running(web_port=80):
            pass
    async with running() as ingress:
        with pytest.raises(PermissionError):
            await add(ingress, "fn", saying(b"1"), port=80)
        assert (await get(ingress.url + "/app-fn"))[0] == 404


async def test_proxy_authorization_holds_for_functions_at_every_address() -> None:
    async with running() as ingress:
        url = await add(ingress, "fn", saying(b"1"), requires_proxy_auth=True)
        for address in (url, ingress.url + "/app-fn"):
            assert await get(address) == (401, "modal-http: missing credentials for proxy authorization\n")
            status, _ = await get(address, **{"Modal-Key": "wk-1", "Modal-Secret": "ws-1"})
            assert status == 200


async def test_nothing_listens_after_the_ingress_has_closed() -> None:
    async with running() as ingress:
        urls = [ingress.url, await add(ingress, "fn", saying(b"1"))]
        _, idle = await raw(urls[1], b"")
    for url in urls:
        with pytest.raises(OSError, match=r"refused|Connect"):
            await exchange(url, b"")
    idle.close()


# Sessions


names = st.lists(st.text("ta-0123456789", min_size=1, max_size=8), min_size=2, max_size=8, unique=True)


@given(session=st.binary(max_size=20), containers=names)
def test_a_session_has_one_container_in_whatever_order_they_are_listed(session: bytes, containers: list[str]) -> None:
    assert rendezvous(session, containers) == rendezvous(session, containers[::-1])


@given(session=st.binary(max_size=20), containers=names)
def test_a_container_that_goes_moves_only_its_own_sessions(session: bytes, containers: list[str]) -> None:
    winner = rendezvous(session, containers)
    for gone in containers:
        if gone != winner:
            assert rendezvous(session, [name for name in containers if name != gone]) == winner


def test_sessions_are_spread_evenly() -> None:
    containers = [f"ta-{number}" for number in range(4)]
    counts = dict.fromkeys(containers, 0)
    for number in range(4000):
        counts[rendezvous(b"session-%d" % number, containers)] += 1
    assert all(850 < count < 1150 for count in counts.values())
