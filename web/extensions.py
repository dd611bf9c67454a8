"""What a server may offer an application beside ASGI, and what it may tell it: used where it is, missed nowhere.

ASGI tells everything by coroutines: a write, however short, passes one of every layer of middleware, and a caller's
leaving is only heard by a task that waits for nothing else. Both are paid for every event, or every request, of a
service that does little more than write. A server that knows better offers a `Connection` in `scope["extensions"]`.

A server refuses what is no request before any application sees it. One that has its own protocol tells that to who
counts requests: by what the application puts into the lifespan's state as `REFUSED`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Scope

    from web.errors import ServiceError

CONNECTION = "web.connection"
"""The extension's name; its value is a `Connection`."""
REFUSED = "web.refused"
"""In the lifespan's state: a `Refused`."""
REFUSAL = "web.refusal"
"""In a request's state: the ServiceError with which the server has refused the rest of it, which the application had
begun to see, and the request id that it told."""


class Refused(Protocol):
    def __call__(self, error: ServiceError, *, request_id: str, method: str | None) -> None:
        """A request that no application sees was refused. `method`: None: it did not come to that."""


class Connection(Protocol):
    """The connection of one request. Everything here happens on its event loop."""

    def write_now(self, body: bytes) -> bool:
        """Send a piece of the response's body that is neither its first nor its last, past all middleware. False:
        nothing was sent, since it would have to wait (the caller reads slowly), or cannot be; then `send` does it."""

    def watch(self, lost: Callable[[], object]) -> None:
        """Call `lost` when the connection is lost: soon, if it is already."""

    def forget(self, lost: Callable[[], object]) -> None:
        """Do not call it any more. Harmless when it was not watched, or was called."""


def connection_of(scope: Scope) -> Connection | None:
    """What the server offers for this request, if it offers anything."""
    offered: Connection | None = scope.get("extensions", {}).get(CONNECTION)
    return offered
