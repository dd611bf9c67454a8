"""Waiting for a web address to answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from emulator.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.clock import Clock

PATIENCE = 600.0
"""Seconds for an address to answer: a first start may fetch a model."""

BETWEEN = 0.1

SHOWN = 2000
"""Characters of an answer that are shown."""

OURS = "modal-http: "
"""How the ingress's own answers begin: a 500 of these says that a container could not start, or died."""


async def wait_until_ready(url: str, *, path: str | None, clock: Clock, say: Callable[[str], None]) -> None:
    """Return once `url` takes connections and, with a `path`, answers below 500 there.

    What it answers meanwhile is said when it changes. Raises `Problem`: at once when no container comes to answer, and
    when time is up.
    """
    answer = "nothing"
    if path is not None:
        say(f"waiting for {url}{path}")
    try:
        async with clock.timeout(PATIENCE):
            while True:
                before, answer = answer, await (_connect(url) if path is None else _get(url + path))
                if answer == "":
                    return
                if path is not None and answer != before:
                    say(f"not ready yet: {answer}")
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
    import aiohttp  # by then there is an app to wait for: nobody waits for this

    try:
        async with aiohttp.ClientSession() as client, client.get(url, allow_redirects=False) as response:
            if response.status < 500:
                return ""
            answer = f"HTTP {response.status}: {(await response.text(errors='replace'))[:SHOWN].strip()}"
    except (aiohttp.ClientError, OSError) as error:
        return str(error)
    if answer.startswith(f"HTTP 500: {OURS}"):
        raise Problem(f"{url} can not answer: {answer}")
    return answer
