"""What can go wrong, in the service's own terms, and what each means on the wire."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

SHUTDOWN_RETRY_SECONDS = 1.0
"""Another container, or the one that comes next, may take the request."""
LONGEST_ECHO = 200
"""Characters of a caller's own words that an error repeats."""


class ServiceError(Exception):
    """Anything that the caller is told about. The message is written for the caller and holds no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequest(ServiceError):
    """The body is not a request. `param` names the field (`messages[0].content`), `code` the kind of mistake."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class KeyRefused(ServiceError):
    """No key, an unknown one or a disabled one: the same words for all, so that nobody learns which."""

    def __init__(self) -> None:
        super().__init__("No valid API key was given. Send one as 'Authorization: Bearer <key>' or as 'x-api-key'.")


class PermissionDenied(ServiceError):
    """The key is valid, and not for this. `code`: `insufficient_scope` or `model_not_allowed`."""

    def __init__(self, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class RateLimited(ServiceError):
    """The caller has used what a minute allows. `retry_after`: seconds until the same request would pass, None if it
    never will."""

    def __init__(self, message: str, *, kind: Literal["requests", "tokens"], retry_after: float | None) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


class UnsupportedMedia(ServiceError):
    """The body says that it is no JSON, or that it is compressed."""


class BodyTooLarge(ServiceError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's body is larger than {limit} bytes.")


class ModelNotFound(ServiceError):
    def __init__(self, label: str) -> None:
        super().__init__(f"The model '{label[:LONGEST_ECHO]}' does not exist or you do not have access to it.")


class ResponseNotFound(ServiceError):
    """A response of the Responses API that is not stored."""

    def __init__(self, response_id: str) -> None:
        super().__init__(f"Response with id '{response_id[:LONGEST_ECHO]}' not found: responses are not stored here yet.")


class RouteNotFound(ServiceError):
    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"Unknown request URL: {method} {path[:LONGEST_ECHO]}. See /openapi.json for what there is.")


class MethodNotAllowed(ServiceError):
    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"Not allowed to {method} on {path[:LONGEST_ECHO]}.")
        self.allowed = allowed


class SessionBusy(ServiceError):
    """Another turn is under way on the session, and did not end while this one waited."""

    def __init__(self, waited: float) -> None:
        super().__init__(f"Another turn of this session is still under way after {waited:.0f} s.")


class SessionConflict(ServiceError):
    """The session is not what it was when it was read: somebody else changed or deleted it."""

    def __init__(self) -> None:
        super().__init__("The session was changed by another request. Try again.")


class SessionDeleted(ServiceError):
    """The session was deleted while its answer was on its way: the answer stops, and nothing of it is kept."""

    def __init__(self) -> None:
        super().__init__("The session was deleted while it was being answered.")


class TooManySessions(ServiceError):
    """`most`: how many there may be at once. `retry_after`: seconds until the next one expires, if that is known."""

    def __init__(self, most: int, *, retry_after: float | None = None) -> None:
        super().__init__(f"There are {most} sessions already. Delete one, or wait until one expires.")
        self.retry_after = retry_after


class EngineStillBooting(ServiceError):
    """No engine came up within the time that this caller waits. `waited`: seconds."""

    def __init__(self, waited: float) -> None:
        super().__init__(f"The model is still starting after {waited:.0f} s. Try again, or stream to wait longer.")


class EngineOverloaded(ServiceError):
    """The engine (its queue), the platform (its containers) or this service (its queue) takes no more requests now.
    `retry_after`: seconds after which there should be room, where that is known."""

    def __init__(self, *, retry_after: float | None = None) -> None:
        super().__init__("The model is at capacity. Try again shortly.")
        self.retry_after = retry_after


class DeadlinePassed(ServiceError):
    """The request took longer than any may. `seconds`: how long that is."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request was not finished within {seconds:g} s.")


class ReaderStalled(ServiceError):
    """The caller has taken nothing of the answer for too long: the connection is cut, so nobody is told this."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The answer was not read for {seconds:.0f} s.")


class ServerShuttingDown(ServiceError):
    """The service is on its way out."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Try again.")


class EngineFailed(ServiceError):
    """The engine cannot start, and says so: waiting does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The model cannot be served: {reason}")
        self.reason = reason


class ModelBusy(ServiceError):
    """The model's engine works on requests, and was not to be stopped under them."""

    def __init__(self, requests: int) -> None:
        super().__init__(f"The model works on {requests} request(s). Try again later, or unload it with force=true.")


class NotSupported(ServiceError):
    """This deployment cannot do what was asked."""


class EngineRefused(ServiceError):
    """The engine understood the request and will not do it."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class EngineBroken(ServiceError):
    """The engine died, stalled, failed or answered nonsense. `code` says which."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class EngineUnreachable(ServiceError):
    """This service is not allowed to speak to the engine, or it is not deployed: the operator's to repair."""


@dataclass(frozen=True, kw_only=True)
class WireError:
    """An error as every dialect can tell it. `headers`: `Retry-After` (seconds), `x-should-retry`, `Allow`."""

    status: int
    type: str
    message: str
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def to_wire(error: BaseException, *, patience: float = 5.0) -> WireError:
    """The one place that knows which error is which status. `patience`: seconds that a caller of a full or booting
    engine is asked to wait; SDKs honour at most 60. Anything unknown is a 500 that tells nothing."""
    retry = _retry(patience)
    match error:
        case InvalidRequest() | EngineRefused():
            return _invalid(400, error.message, code=error.code, param=error.param)
        case ModelNotFound():
            return _invalid(404, error.message, code="model_not_found", param="model")
        case ResponseNotFound():
            return _invalid(404, error.message, code="response_not_found", param="response_id")
        case RouteNotFound():
            return _invalid(404, error.message, code="unknown_url")
        case MethodNotAllowed():
            return _invalid(405, error.message, code="method_not_supported", headers={"Allow": error.allowed})
        case KeyRefused():
            challenge = {"WWW-Authenticate": "Bearer"}
            return _invalid(401, error.message, code="invalid_api_key", headers=challenge)
        case PermissionDenied():
            return WireError(
                status=403, type="permission_error", code=error.code, message=error.message, param=error.param
            )
        case RateLimited():
            waiting = _retry(error.retry_after) if error.retry_after is not None else {"x-should-retry": "false"}
            return WireError(
                status=429, type=error.kind, code="rate_limit_exceeded", message=error.message, headers=waiting
            )
        case UnsupportedMedia():
            return _invalid(415, error.message, code="unsupported_media_type", headers={"Accept-Encoding": "identity"})
        case BodyTooLarge():
            return _invalid(413, error.message, code="request_too_large")
        case ModelBusy():
            return _invalid(409, error.message, code="model_busy")
        case NotSupported():
            return WireError(status=501, type="invalid_request_error", code="not_supported", message=error.message)
        case SessionBusy() | SessionConflict():
            return _conflict(error.message, code="session_busy", headers=_retry(1.0))
        case SessionDeleted():
            # Asked again, it would begin the session anew.
            return _conflict(error.message, code="session_deleted", headers={"x-should-retry": "false"})
        case TooManySessions():
            after = {**_retry(error.retry_after or patience), "x-should-retry": "false"}
            return WireError(
                status=429, type="requests", code="max_sessions_reached", message=error.message, headers=after
            )
        case EngineStillBooting():
            return _unavailable(error.message, code="model_booting", headers=retry)
        case EngineOverloaded():
            after = retry if error.retry_after is None else _retry(error.retry_after)
            return _unavailable(error.message, code="server_is_overloaded", headers=after)
        case ServerShuttingDown():
            leaving = {**_retry(SHUTDOWN_RETRY_SECONDS), "Connection": "close"}
            return _unavailable(error.message, code="server_shutting_down", headers=leaving)
        case DeadlinePassed():
            # Asked again, it would take as long again.
            last = {"x-should-retry": "false"}
            return WireError(status=504, type="timeout", code="deadline_exceeded", message=error.message, headers=last)
        case ReaderStalled():
            return WireError(status=408, type="timeout", code="write_timeout", message=error.message)
        case EngineFailed():
            return _unavailable(error.message, code="engine_start_failed", headers={"x-should-retry": "false"})
        case EngineBroken():
            return WireError(status=502, type="server_error", code=error.code, message=error.message)
        case EngineUnreachable():
            no_retry = {"x-should-retry": "false"}
            return WireError(
                status=502, type="server_error", code="engine_unreachable", message=error.message, headers=no_retry
            )
    return WireError(
        status=500, type="server_error", code="internal_error", message="The server had an error. Try again."
    )


def _retry(seconds: float) -> dict[str, str]:
    """To the millisecond for the SDKs, which prefer it, and in whole seconds for everyone; at most a minute."""
    seconds = min(60.0, max(0.001, seconds))
    milliseconds = math.ceil(round(seconds * 1000, 3))
    return {
        "Retry-After": str(math.ceil(round(seconds, 6))), "retry-after-ms": str(milliseconds), "x-should-retry": "true",
    }  # fmt: skip


def _invalid(
    status: int, message: str, *, code: str | None, param: str | None = None, headers: Mapping[str, str] | None = None
) -> WireError:
    return WireError(
        status=status, type="invalid_request_error", message=message, code=code, param=param, headers=headers or {}
    )


def _conflict(message: str, *, code: str, headers: Mapping[str, str]) -> WireError:
    return WireError(status=409, type="conflict_error", message=message, code=code, headers=headers)


def _unavailable(message: str, *, code: str, headers: Mapping[str, str]) -> WireError:
    return WireError(status=503, type="service_unavailable_error", message=message, code=code, headers=headers)
