"""Waiting for a web address to answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from emulator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock

PATIENCE = 600.0
"""Seconds for an address to answer: a first start may fetch a model."""

BETWEEN = 0.1


async def wait_until_ready(url: str, *, path: str | None, clock: Clock, say: Callable[[str], None]) -> None:
    """Return once `url` takes connections and, with a `path`, answers below 500 there. Raises `Problem`."""
    answer = "nothing"
    if path is not None:
        say(f"waiting for {url}{path}")
    try:
        async with clock.timeout(PATIENCE):
            while True:
                answer = await (_connect(url) if path is None else _get(url + path))
                if answer == "":
                    return
                await clock.sleep(BETWEEN)
    except TimeoutError:
        raise Problem(f"{url}{path or ''} was not ready within {PATIENCE:.0f} s; last: {answer}") from None


async def _connect(url: str) -> str:
    parts = urlsplit(url)
    try:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    except OSError as error:
        return str(error)
    writer.close()
    return ""


async def _get(url: str) -> str:
    try:
        async with aiohttp.ClientSession() as client, client.get(url, allow_redirects=False) as response:
            return "" if response.status < 500 else f"HTTP {response.status}: {(await response.text())[:200]}"
    except (aiohttp.ClientError, OSError) as error:
        return str(error)
