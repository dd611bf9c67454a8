"""Somebody's app, as the tests of the fixtures deploy it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import modal

if TYPE_CHECKING:
    from collections.abc import Iterator

app = modal.App("shop")
image = modal.Image.debian_slim()
counts = modal.Dict.from_name("counts", create_if_missing=True)
orders = modal.Dict.from_name("orders", create_if_missing=True)


@app.function(image=image)
def price(pieces: int) -> int:
    print(f"asked for {pieces}")
    if pieces < 0:
        raise ValueError("nobody buys less than nothing")
    orders[pieces] = 3 * pieces
    return 3 * pieces


@app.cls()
class Till:
    @modal.method()
    def pid(self) -> int:
        return os.getpid()


@app.function()
def count(up_to: int) -> Iterator[int]:
    yield from range(up_to)


@app.function(schedule=modal.Cron("0 * * * *"))
def count_the_till() -> None:
    counts[counts.len()] = True


@app.function()
@modal.asgi_app()
def window() -> object:
    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"apples"})

    return application
