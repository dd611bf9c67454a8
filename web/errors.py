"""What can go wrong, in the service's own terms, and what each means on the wire.

Each error says there what it is: `docs/api.md` lists them all, and a test holds the list.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_ECHO = 200
"""Characters of a caller's own words that an error repeats."""
INVALID = "invalid_request_error"
UNAVAILABLE = "service_unavailable_error"


class ServiceError(Exception):
    """Anything that the caller is told about. The message is written for the caller and holds no secret.

    `status`, and `type`, `code` and `param` as OpenAI calls them. `again`: whether SDKs are to ask again by themselves
    (None: as they do for the status). `retry_after`: seconds after which asking again makes sense, where that is known.
    """

    status: int = 500
    type: str = "server_error"
    code: str | None = None
    param: str | None = None
    again: bool | None = None
    retry_after: float | None = None
    extra_headers: Mapping[str, str] = {}

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def headers(self, patience: float) -> dict[str, str]:
        """`patience`: seconds to tell whoever is to ask again, where nobody knows better."""
        told = dict(self.extra_headers)
        if self.again or self.retry_after is not None:
            told |= _waiting(patience if self.retry_after is None else self.retry_after)
        if self.again is not None:
            told["x-should-retry"] = "true" if self.again else "false"
        return told


class InvalidRequest(ServiceError):
    """The body is not a request. `param` names the field (`messages[0].content`), `code` the kind of mistake."""

    status, type = 400, INVALID

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class KeyRefused(ServiceError):
    """No key, an unknown one or a disabled one: the same words for all, so that nobody learns which."""

    status, type, code = 401, INVALID, "invalid_api_key"
    extra_headers: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

    def __init__(self) -> None:
        # The first words are OpenAI's: LiteLLM tells a wrong key from a bad request by them.
        how = "Send a valid one as 'Authorization: Bearer <key>' or as 'x-api-key'."
        super().__init__(f"Incorrect API key provided, or none. {how}")


class PermissionDenied(ServiceError):
    """The key is valid, and not for this. `code`: `insufficient_scope` or `model_not_allowed`."""

    status, type = 403, "permission_error"

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class RateLimited(ServiceError):
    """The caller has used what a minute allows. `retry_after`: seconds until the same request would pass, None if it
    never will."""

    status, code = 429, "rate_limit_exceeded"

    def __init__(self, message: str, *, kind: Literal["requests", "tokens"], retry_after: float | None) -> None:
        super().__init__(message)
        self.type = self.kind = kind
        self.retry_after = retry_after
        self.again = retry_after is not None


class UnsupportedMedia(ServiceError):
    """The body says that it is no JSON, or that it is compressed."""

    status, type, code = 415, INVALID, "unsupported_media_type"
    extra_headers: Mapping[str, str] = {"Accept-Encoding": "identity"}


class BodyTooLarge(ServiceError):
    status, type, code = 413, INVALID, "request_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's body is larger than {limit} bytes.")


class ModelNotFound(ServiceError):
    status, type, code, param = 404, INVALID, "model_not_found", "model"

    def __init__(self, label: str) -> None:
        super().__init__(f"The model '{label[:LONGEST_ECHO]}' does not exist or you do not have access to it.")


class RouteNotFound(ServiceError):
    status, type, code = 404, INVALID, "unknown_url"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"Unknown request URL: {method} {path[:LONGEST_ECHO]}. See /openapi.json for what there is.")


class MethodNotAllowed(ServiceError):
    status, type, code = 405, INVALID, "method_not_supported"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"Not allowed to {method} on {path[:LONGEST_ECHO]}.")
        self.extra_headers = {"Allow": allowed}


class UpgradeRequired(ServiceError):
    status, type, code = 426, INVALID, "upgrade_required"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is a WebSocket: connect to it with a WebSocket client.")
        self.extra_headers = {"Upgrade": "websocket"}


class EngineStillBooting(ServiceError):
    """No engine came up within the time that this caller waits. `waited`: seconds."""

    status, type, code, again = 503, UNAVAILABLE, "model_booting", True

    def __init__(self, waited: float) -> None:
        super().__init__(f"The model is still starting after {waited:.0f} s. Try again, or stream to wait longer.")


class EngineOverloaded(ServiceError):
    """The engine (its queue) or this service (its queue) takes no more requests now. `retry_after`: seconds after which
    there should be room, where that is known."""

    status, type, code, again = 503, UNAVAILABLE, "server_is_overloaded", True

    def __init__(self, *, retry_after: float | None = None) -> None:
        super().__init__("The model is at capacity. Try again shortly.")
        self.retry_after = retry_after


class ContainersBusy(EngineOverloaded):
    """Every container of the model has as many requests as the platform gives it, and no further one may start."""

    code = "model_at_capacity"


class DeadlinePassed(ServiceError):
    """The request took longer than any may. `seconds`: how long that is."""

    status, type, code = 504, "timeout", "deadline_exceeded"
    again = False  # it would take as long again

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was not finished within {seconds:g} s.")


class ReaderStalled(ServiceError):
    """The caller has taken nothing of the answer for too long: the connection is cut, so nobody is told this."""

    status, type, code = 408, "timeout", "write_timeout"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The answer was not read for {seconds:.0f} s.")


class ServerShuttingDown(ServiceError):
    """The service is on its way out: another container, or the one that comes next, may take the request."""

    status, type, code, again, retry_after = 503, UNAVAILABLE, "server_shutting_down", True, 1.0
    extra_headers: Mapping[str, str] = {"Connection": "close"}

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Try again.")


class ModelBusy(ServiceError):
    """The model's engine works on requests, and was not to be stopped under them."""

    status, type, code = 409, INVALID, "model_busy"

    def __init__(self, requests: int) -> None:
        super().__init__(f"The model works on {requests} request(s). Try again later, or unload it with force=true.")


class NotSupported(ServiceError):
    """This deployment cannot do what was asked."""

    status, type, code = 501, INVALID, "not_supported"


class EngineFailed(ServiceError):
    """The engine cannot start, and says so: waiting does not help."""

    status, type, code, again = 503, UNAVAILABLE, "engine_start_failed", False

    def __init__(self, reason: str) -> None:
        self.reason = presentable(reason)
        super().__init__(f"The model cannot be served: {self.reason}")


class EngineRefused(ServiceError):
    """The engine understood the request and will not do it."""

    status, type = 400, INVALID

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(presentable(message))
        self.param = param
        self.code = code


class EngineBroken(ServiceError):
    """The engine died, stalled, failed or answered nonsense. `code` says which."""

    status = 502

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(presentable(message))
        self.code = code


class EngineUnreachable(ServiceError):
    """This service is not allowed to speak to the engine, or it is not deployed: the operator's to repair."""

    status, code, again = 502, "engine_unreachable", False


@dataclass(frozen=True, kw_only=True)
class WireError:
    """An error as every dialect can tell it. `headers`: `Retry-After` (seconds), `x-should-retry`, `Allow`, …"""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


UNEXPECTED = WireError(
    status=500, type="server_error", code="internal_error", message="The server had an error. Try again."
)


def to_wire(error: BaseException, *, patience: float = 5.0) -> WireError:
    """What an error is on the wire. `patience`: seconds that a caller of a full or booting engine is asked to wait,
    where nobody knows better. Anything unknown is a 500 that tells nothing."""
    if not isinstance(error, ServiceError):
        return UNEXPECTED
    return WireError(
        status=error.status, type=error.type, message=error.message, code=error.code, param=error.param,
        headers=error.headers(patience),
    )  # fmt: skip


def _waiting(seconds: float) -> dict[str, str]:
    """To the millisecond for the SDKs, which prefer it, and in whole seconds for everyone; at most a minute, since SDKs
    that are asked to wait longer do not ask again."""
    seconds = min(60.0, max(0.001, seconds))
    milliseconds = math.ceil(round(seconds * 1000, 3))
    return {"Retry-After": str(math.ceil(round(seconds, 6))), "retry-after-ms": str(milliseconds)}


ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"<>)\]]+|\b(?:\d{1,3}(?:\.\d{1,3}){3}|localhost)(?::\d+)?\b")
FOLDERS = re.compile(r"(?<![\w/.])/(?:[\w.@+~-]+/)+(?=[\w.@+~-])")


def presentable(message: str) -> str:
    """An engine's words, without what only its operator should know: addresses, and the folders of files."""
    return FOLDERS.sub("", ADDRESS.sub("[address]", message.partition("\n")[0]))
