"""Who asks: known once keys are checked, and carried in the ASGI scope's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Scope

    from infra.settings import KeyScope


@dataclass(frozen=True, kw_only=True)
class Caller:
    """`identity` is what limits and sessions are kept by: `key:<start of its hash>` (of one in the table:
    `key:<its id>`), or `ip:<address>` without keys."""

    identity: str
    name: str | None = None
    """The key's name, for logs. None without a key."""
    scopes: frozenset[KeyScope] = frozenset({"inference", "admin", "metrics"})
    models: frozenset[str] | None = None
    """The ids and names that the key may ask; None: all."""
    requests_per_minute: int | None = None
    """The key's own limit; None: the default one."""
    tokens_per_minute: int | None = None
    """Likewise."""
    monthly_budget: float | None = None
    """What the key's answers may cost in a calendar month (UTC), in the unit of the models' prices; None: anything."""
    counted: bool = False
    """Whether the request is counted already, however often an engine is asked for it (`web.limits`)."""

    unhurried: bool = False
    """Whether the limits of a minute are not for it: a batch's line, which waits for its turn anyway."""

    def once_counted(self) -> Caller:
        """The same caller, of a request that is counted already. (`dataclasses.replace` takes ten times as long, and
        this is done for every request.)"""
        same = object.__new__(Caller)
        same.__dict__.update(self.__dict__, counted=True)
        return same


ANYBODY = Caller(identity="anybody")


def caller_of(scope: Scope) -> Caller:
    """The caller of this request, as the authentication found it; ANYBODY where nothing was checked."""
    caller = scope.get("state", {}).get("caller", ANYBODY)
    assert isinstance(caller, Caller)
    return caller


async def caller_now(scope: Scope) -> Caller:
    """The caller of a WebSocket, which may outlive its key, as of now. Raises KeyRefused, KeysUnavailable."""
    ask: Callable[[], Awaitable[Caller]] | None = scope.get("state", {}).get("caller_now")
    return caller_of(scope) if ask is None else await ask()


def request_id_of(scope: Scope) -> str:
    """The request's id, as it is told in `x-request-id`."""
    return str(scope.get("state", {}).get("request_id", ""))
