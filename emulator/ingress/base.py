"""What the ingress asks of the scheduler: the seam between HTTP on one side and inputs and containers on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from modal_proto import api_pb2


class WebInputFailed(Exception):
    """The input behind a web request ended without a complete answer: the container died, timed out or raised."""


class WebInput(Protocol):
    """One HTTP request or WebSocket to a web function: an input of the function, with messages both ways."""

    async def send(self, message: api_pb2.Asgi) -> None:
        """Hand one ASGI event (request body, disconnect, WebSocket frame) to the container; wait while it is behind."""

    def events(self) -> AsyncIterator[Sequence[api_pb2.Asgi]]:
        """The ASGI events that the container sends, those that are there at once together, until the input is done.

        Raises `WebInputFailed`.
        """

    async def cancel(self) -> None:
        """Cancel the input, as Modal does for a caller who has left and whose grace period is over."""


class FunctionBackend(Protocol):
    """A web function as the ingress sees it."""

    def open(self, scope: dict[str, Any]) -> AbstractAsyncContextManager[WebInput]:
        """Enqueue an input for an ASGI `scope`. Leaving the context while the input runs cancels it."""


class ServerTarget(Protocol):
    """A container of a Server that takes requests now."""

    @property
    def task_id(self) -> str: ...

    @property
    def active(self) -> int:
        """Requests that it is serving now."""

    async def dial(self) -> socket.socket:
        """A non-blocking TCP socket connected to the server's port in that container."""

    def track(self) -> AbstractAsyncContextManager[None]:
        """Count one request as being served by this container while the context is open."""


class ServerBackend(Protocol):
    """A Server as the ingress sees it."""

    @property
    def max_concurrency(self) -> int | None:
        """Requests at once for each container, above which a request is answered 429."""

    def targets(self) -> Sequence[ServerTarget]:
        """The containers that take requests now. Empty: answer 503, having called `demand`."""

    @property
    def sessioned(self) -> bool:
        """Whether requests need a session, and sessions are what it is scaled by."""

    def serves(self, task_id: str) -> bool:
        """Whether a container is there and may go on with what it has begun, though it may take nothing new."""

    def queued(self) -> AbstractContextManager[None]:
        """A session waits for room while the context is open: count it as demand."""

    async def changed(self) -> None:
        """Wait until there may be other containers, or room in one."""

    def demand(self) -> None:
        """A request came and found no container: count it as demand, so that one starts."""

    def handled(self, task_id: str, *, route: str, at: float, seconds: float, status: int) -> None:
        """A container has had a request for that path, which came at that time (seconds since the epoch)."""
