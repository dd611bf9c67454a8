"""Answers of web functions that take too long for one request: result URLs, as on Modal."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from tests.emulator.ingress_kit import TurnedClock, add_function, echo, hold, running, until


async def test_after_150_seconds_without_an_answer_the_client_is_sent_to_a_result_url() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add_function(ingress, slow)
        post = asyncio.create_task(client.post(url + "/p?a=1", data=b"late", allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        response = await post
        assert response.status == 303
        location = response.headers["Location"]
        assert location.startswith("/p?a=1&__modal_function_call_id=fc-")

        again = asyncio.create_task(client.get(url + location, allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await again).headers["Location"]
        assert location.count("__modal_function_call_id") == 1

        final = asyncio.create_task(client.get(url + location))
        go.set()
        response = await final
        assert (response.status, await response.read()) == (201, b"late")
        assert len(function.inputs) == 1


async def test_a_redeploy_does_not_lose_the_answer_behind_a_result_url() -> None:
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, slow)
        post = asyncio.create_task(client.post(url, data=b"old", allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await post).headers["Location"]
        await add_function(ingress, hold)
        go.set()
        async with client.get(url + location) as response:
            assert (response.status, await response.read()) == (201, b"old")


async def test_a_result_that_nobody_comes_for_is_dropped_and_its_input_cancelled() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add_function(ingress, slow)
        get = asyncio.create_task(client.get(url, allow_redirects=False))
        await until(lambda: clock.pending(150.0))
        clock.turn(150.0)
        location = (await get).headers["Location"]
        await until(lambda: clock.pending(600.0))
        clock.turn(600.0)
        await until(lambda: "http_disconnect" in function.inputs[0].kinds() and clock.pending(10.0))
        clock.turn(10.0)
        await until(lambda: function.inputs[0].cancelled)
        async with client.get(url + location) as response:
            assert response.status == 404


async def test_a_result_url_can_be_loaded_again_and_takes_nothing_but_get() -> None:
    clock = TurnedClock()
    go = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await go.wait()
        await echo(scope, receive, send)

    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, function = await add_function(ingress, slow)
        location = url + await late(client, url, clock)
        async with client.post(location, data=b"again") as response:
            assert (response.status, await response.text()) == (400, "modal-http: bad redirect method\n")
        impatient = asyncio.create_task(client.get(location))
        await until(lambda: clock.pending(150.0))
        impatient.cancel()  # whoever leaves here has not cancelled anything
        go.set()
        for _ in range(2):
            async with client.get(location) as response:
                assert (response.status, await response.read()) == (201, b"late")
        assert len(function.inputs) == 1
        assert "http_disconnect" not in function.inputs[0].kinds()


async def test_every_150_seconds_there_is_another_redirect_to_the_same_result_url() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    clock = TurnedClock()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, slow)
        locations = [await late(client, url, clock)]
        for _ in range(3):
            get = asyncio.create_task(client.get(url + locations[-1], allow_redirects=False))
            await until(lambda: clock.pending(150.0))
            clock.turn(150.0)
            response = await get
            assert response.status == 303
            locations.append(response.headers["Location"])
    assert len(set(locations)) == 1


async def test_a_large_answer_waits_for_its_reader_and_is_gone_when_it_has_been_read() -> None:
    sent = 0

    async def large(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(48):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    clock, go = TurnedClock(), asyncio.Event()
    async with running(clock) as ingress, aiohttp.ClientSession() as client:
        url, _ = await add_function(ingress, large)
        location = url + await late(client, url, clock)
        go.set()
        await until(lambda: sent >= 16)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent <= 20
        async with client.get(location) as response:
            assert len(await response.read()) == 48 << 20
        async with client.get(location) as response:
            assert response.status == 404


async def late(client: aiohttp.ClientSession, url: str, clock: TurnedClock) -> str:
    """Where a request that is not answered in time is sent."""
    post = asyncio.create_task(client.post(url, data=b"late", allow_redirects=False))
    await until(lambda: clock.pending(150.0))
    clock.turn(150.0)
    response = await post
    assert response.status == 303
    return response.headers["Location"]
