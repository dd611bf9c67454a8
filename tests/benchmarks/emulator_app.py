"""Functions that do nothing: what a call of them costs is the platform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal

if TYPE_CHECKING:
    from collections.abc import Iterator

app = modal.App("benchmark-calls")


@app.function(max_containers=1)
def nothing(x: int = 0) -> int:
    return x


@app.function(max_containers=2)
def mapped(x: int) -> int:
    return x


@app.function(max_containers=1)
def items(count: int) -> Iterator[int]:
    yield from range(count)


@app.local_entrypoint()
def main() -> None:
    print(nothing.remote(1))
