"""Sticky sessions of a Server: started, routed, queued, ended."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.emulator.ingress_kit import OK, FakeServer, FakeTarget, TurnedClock, add_server, answering, running, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

START, TERMINATE = "/_modal/sessions/start", "/_modal/sessions/terminate"


@asynccontextmanager
async def serving(
    *targets: FakeTarget, most: int | None = None, auth: bool = False
) -> AsyncIterator[tuple[str, FakeServer, aiohttp.ClientSession, TurnedClock]]:
    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        server = FakeServer(*[await target.start() for target in targets], max_concurrency=most)
        server.sessioned = True
        yield await add_server(ingress, server, requires_proxy_auth=auth), server, client, clock


def target(name: str) -> FakeTarget:
    return FakeTarget(name, answering(OK))


async def start(client: aiohttp.ClientSession, url: str, **headers: str) -> dict[str, Any]:
    async with client.post(url + START, headers=headers) as response:
        assert response.status == 200, await response.text()
        session: dict[str, Any] = await response.json()
        return session


def carrying(session: dict[str, Any]) -> dict[str, str]:
    return {"Modal-Authorization": f"Bearer {session['token']}"}


async def status(client: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with client.get(url, allow_redirects=False, **options) as response:
        return response.status


async def test_all_requests_of_a_session_reach_one_container_which_is_told_whose_they_are() -> None:
    first, second = target("ta-1"), target("ta-2")
    async with serving(first, second) as (url, _, client, _):
        sessions = [await start(client, url) for _ in range(2)]
        assert (first.active, second.active) == (1, 1)
        for session in sessions:
            for _ in range(3):
                assert await status(client, url, headers={**carrying(session), "X-Modal-Server-Session-Id": "x"}) == 200
        for container in (first, second):
            heads: list[bytes] = container.answer.heads  # type: ignore[attr-defined]
            told = {line for head in heads for line in head.lower().split(b"\r\n") if b"session" in line}
            assert (len(heads), len(told)) == (3, 1)
            assert told.pop().split(b": ")[1].decode() in {session["session_id"] for session in sessions}


async def test_a_request_without_a_session_is_refused_and_an_unknown_one_is_not_found() -> None:
    async with serving(target("ta-1")) as (url, _, client, _):
        assert await status(client, url) == 401
        assert await status(client, url, headers={"Modal-Authorization": "Bearer none"}) == 404
        assert await status(client, url + "/?modal_session_token=none%0d%0aX: 1") == 404


async def test_starting_takes_a_proxy_token_or_the_clients_own_and_the_session_needs_neither() -> None:
    async with serving(target("ta-1"), auth=True) as (url, _, client, _):
        assert (await client.post(url + START)).status == 401
        for headers in ({"Authorization": "Bearer wk-1.ws-1"}, {"Modal-Authorization": "Bearer own"}):
            session = await start(client, url, **headers)
            assert await status(client, url, headers=carrying(session)) == 200


async def test_a_browser_gets_a_cookie_for_the_token_in_its_address() -> None:
    container = target("ta-1")
    async with serving(container) as (url, _, client, _):
        token = (await start(client, url))["token"]
        async with client.get(url + f"/p?a=1&modal_session_token={token}&b=2", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (307, "/p?a=1&b=2")
            assert response.headers["Cache-Control"] == "no-store"
            cookie = response.headers["Set-Cookie"]
        assert cookie == f"__Host-modal-session-token={token}; Path=/; Secure; HttpOnly; SameSite=Lax"
        assert await status(client, url, headers={"Cookie": cookie.partition(";")[0]}) == 200


async def test_a_terminated_session_takes_no_request_but_finishes_those_that_it_has() -> None:
    go = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        writer.write(OK)

    container = FakeTarget("ta-1", slow)
    async with serving(container) as (url, _, client, _):
        session = await start(client, url)
        held = asyncio.create_task(status(client, url, headers=carrying(session)))
        await until(lambda: container.connections)
        ending = {"x-modal-server-session-token": session["token"]}
        assert (await client.post(url + TERMINATE, headers=ending)).status == 200
        assert await status(client, url, headers=carrying(session)) == 404
        assert container.active == 1
        go.set()
        assert await held == 200
        await until(lambda: not container.active)
        assert (await client.post(url + TERMINATE, headers=ending)).status == 404


async def test_a_session_ends_when_it_was_idle_for_its_timeout() -> None:
    container = target("ta-1")
    async with serving(container) as (url, _, client, clock):
        session = await start(client, url, **{"x-modal-server-session-idle-timeout": "60"})
        await until(lambda: clock.pending(60.0))
        clock.turn(59.0)
        assert await status(client, url, headers=carrying(session)) == 200
        clock.turn(1.0)
        await until(lambda: clock.pending(59.0))
        clock.turn(59.0)
        await until(lambda: not container.active)
        assert await status(client, url, headers=carrying(session)) == 404


async def test_a_start_waits_for_room_and_is_demand_meanwhile() -> None:
    first, second = target("ta-1"), await target("ta-2").start()
    async with serving(first, most=1) as (url, server, client, clock):
        await start(client, url)
        waiting = asyncio.create_task(start(client, url))
        await until(lambda: server.waiting == 1)
        server.change(first, second)
        await waiting
        assert (server.waiting, second.active) == (0, 1)
        late = asyncio.create_task(client.post(url + START))
        await until(lambda: clock.pending(1500.0))
        clock.turn(1500.0)
        assert (await late).status == 503


async def test_who_leaves_while_waiting_for_room_is_no_demand_any_more() -> None:
    first, second = target("ta-1"), await target("ta-2").start()
    async with serving(first, most=1) as (url, server, client, _):
        await start(client, url)
        waiting = asyncio.create_task(client.post(url + START))
        await until(lambda: server.waiting == 1)
        waiting.cancel()
        await until(lambda: server.waiting == 0)
        server.change(first, second)
        await start(client, url)
        assert (first.active, second.active) == (1, 1)


async def test_a_start_that_is_repeated_makes_no_second_session() -> None:
    container = target("ta-1")
    async with serving(container) as (url, _, client, _):
        key = {"x-idempotency-key": "k"}
        assert await start(client, url, **key) == await start(client, url, **key)
        assert container.active == 1


async def test_a_session_ends_with_its_container() -> None:
    first, second = target("ta-1"), await target("ta-2").start()
    async with serving(first) as (url, server, client, _):
        session = await start(client, url)
        server.change(second)
        assert await status(client, url, headers=carrying(session)) == 404


async def test_an_idle_timeout_is_a_positive_number() -> None:
    async with serving(target("ta-1")) as (url, _, client, _):
        for wrong in ("0", "-1", "soon", "1.5"):
            async with client.post(url + START, headers={"x-modal-server-session-idle-timeout": wrong}) as response:
                assert response.status == 400
