"""What FastAPI and its routes refuse, in the service's own terms; and HEAD and OPTIONS, which it does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from web.caller import request_id_of
from web.dialects.errors import error_body
from web.errors import InvalidRequest, MethodNotAllowed, RouteNotFound, ServiceError, to_wire
from web.middleware import route_path
from web.record import note_error

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


def tell_errors(api: FastAPI) -> None:
    """Make `api` answer every error as the caller's dialect has it."""
    for kind in (HTTPException, RequestValidationError, ServiceError, Exception):
        api.add_exception_handler(kind, _error_response)


async def _error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted(_methods_at(request)))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        error = MethodNotAllowed(request.method, request.url.path, allowed)
    elif isinstance(error, HTTPException) and error.status_code == 404:
        error = RouteNotFound(request.method, request.url.path)
    elif isinstance(error, RequestValidationError):
        error = _explained(error)
    wire = to_wire(error)
    note_error(wire)
    body = error_body(route_path(request.scope), wire, request_id=request_id_of(request.scope))
    return Response(body, wire.status, wire.headers, media_type="application/json")


def _methods_at(request: Request) -> set[str]:
    """Every method that some route has for this path."""
    methods = {"OPTIONS"}
    for method in ("DELETE", "GET", "PATCH", "POST", "PUT"):
        asked = {**request.scope, "method": method}
        if any(route.matches(asked)[0] is Match.FULL for route in request.app.routes):
            methods.add(method)
    return methods | {"HEAD"} if "GET" in methods else methods


def _explained(error: RequestValidationError) -> InvalidRequest:
    first: dict[str, Any] = error.errors()[0]
    if first["type"] == "json_invalid":
        return InvalidRequest("The request's body is not JSON.", code="invalid_json")
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in first["loc"][1:]).removeprefix(".")
    if not param:
        return InvalidRequest(f"The request's body is not valid: {first['msg']}.", code="invalid_value")
    if first["type"] == "missing":
        return InvalidRequest(
            f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
        )  # fmt: skip
    kind = "invalid_type" if first["type"].endswith("_type") else "invalid_value"
    return InvalidRequest(f"Invalid value for '{param}': {first['msg']}.", param=param, code=kind)


class Heads:
    """Answers HEAD as it would GET, without the body. FastAPI's routes have no HEAD of their own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        asked = {**scope, "method": "GET"}
        await self._app(asked, receive, bodiless)
        scope["route"] = asked.get("route")
