"""What can go wrong, in the service's own terms, and what each means on the wire."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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


class BodyTooLarge(ServiceError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"The request's body is larger than {limit} bytes.")


class ModelNotFound(ServiceError):
    def __init__(self, label: str) -> None:
        super().__init__(f"The model '{label[:LONGEST_ECHO]}' does not exist or you do not have access to it.")


class RouteNotFound(ServiceError):
    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"Unknown request URL: {method} {path[:LONGEST_ECHO]}. See /openapi.json for what there is.")


class MethodNotAllowed(ServiceError):
    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"Not allowed to {method} on {path[:LONGEST_ECHO]}.")
        self.allowed = allowed


class EngineStillBooting(ServiceError):
    """No engine came up within the time that this caller waits. `waited`: seconds."""

    def __init__(self, waited: float) -> None:
        super().__init__(f"The model is still starting after {waited:.0f} s. Try again, or stream to wait longer.")


class EngineOverloaded(ServiceError):
    """The engine (its queue) or the platform (its containers) takes no more requests now."""

    def __init__(self) -> None:
        super().__init__("The model is at capacity. Try again shortly.")


class EngineFailed(ServiceError):
    """The engine cannot start, and says so: waiting does not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"The model cannot be served: {reason}")


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
    retry = {"Retry-After": str(min(60, max(1, math.ceil(patience)))), "x-should-retry": "true"}
    match error:
        case InvalidRequest() | EngineRefused():
            return _invalid(400, error.message, code=error.code, param=error.param)
        case ModelNotFound():
            return _invalid(404, error.message, code="model_not_found", param="model")
        case RouteNotFound():
            return _invalid(404, error.message, code="unknown_url")
        case MethodNotAllowed():
            return _invalid(405, error.message, code="method_not_supported", headers={"Allow": error.allowed})
        case BodyTooLarge():
            return _invalid(413, error.message, code="request_too_large")
        case EngineStillBooting():
            return _unavailable(error.message, code="model_booting", headers=retry)
        case EngineOverloaded():
            return _unavailable(error.message, code="server_is_overloaded", headers=retry)
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


def _invalid(
    status: int, message: str, *, code: str | None, param: str | None = None, headers: Mapping[str, str] | None = None
) -> WireError:
    return WireError(
        status=status, type="invalid_request_error", message=message, code=code, param=param, headers=headers or {}
    )


def _unavailable(message: str, *, code: str, headers: Mapping[str, str]) -> WireError:
    return WireError(status=503, type="service_unavailable_error", message=message, code=code, headers=headers)
