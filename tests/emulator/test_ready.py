"""Waiting until an app answers: how long, and what is said meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from emulator.clock import RealClock
from emulator.problem import Problem
from emulator.ready import wait_until_ready

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def answering(*answers: tuple[int, str]) -> AsyncIterator[str]:
    """The address of a server that gives these answers, one for each request."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status, text = left.pop(0)
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
    assert not left, "it asks until it has the answer that it waits for"


async def test_what_is_answered_meanwhile_is_said_when_it_changes() -> None:
    said: list[str] = []
    loading = (503, "loading")
    async with answering(loading, loading, (500, "not mine"), (404, "")) as url:
        await wait_until_ready(url, path="/health", clock=RealClock(), say=said.append)
    assert said == [
        f"waiting for {url}/health",
        "not ready yet: HTTP 503: loading",
        "not ready yet: HTTP 500: not mine",
    ]


async def test_containers_that_can_not_start_are_no_reason_to_go_on_waiting() -> None:
    async with answering((500, "modal-http: internal error: status Failure: no weights")) as url:
        with pytest.raises(Problem, match="no weights"):
            await wait_until_ready(url, path="/health", clock=RealClock(), say=lambda _: None)
