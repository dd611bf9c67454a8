"""`GET /`, the chat page, and `/static/…`, what it is made of. Built from `page/`; a browser needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from web.errors import RouteNotFound
from web.static_files import StaticFile, StaticFiles, unchanged

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER = Path(__file__).parents[1] / "static"
POLICY = {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "font-src": "'self'",
    "img-src": "'self' data: blob:", "connect-src": "'self'", "base-uri": "'none'", "form-action": "'none'",
    "frame-ancestors": "'none'", "require-trusted-types-for": "'script'", "trusted-types": "dompurify",
}  # fmt: skip
"""What a browser lets the page do, whatever a model answers: run its own scripts, talk to this service, nothing else.
No markup becomes part of the page but through the sanitiser (`trusted-types`)."""
WITH_IMAGES = {"img-src": "'self' data: blob: https: http:"}
"""The page of somebody who allows images of other places in answers: `/?images=allow`."""
AROUND_PAGE = {
    "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin", "x-frame-options": "DENY",
}  # fmt: skip


def router(folder: Path = FOLDER) -> APIRouter:
    """The routes. Nothing is read until somebody asks."""
    api = APIRouter(include_in_schema=False)
    files = StaticFiles(folder)

    @api.get("/")
    async def page(request: Request) -> Response:
        images = WITH_IMAGES if request.query_params.get("images") == "allow" else {}
        return answer(request, files, "index.html", {**AROUND_PAGE, "content-security-policy": policy(images)})

    @api.get("/static/{name}")
    async def static(request: Request, name: str) -> Response:
        return answer(request, files, name)

    @api.get("/favicon.ico")
    async def icon(request: Request) -> Response:
        return answer(request, files, "icon.svg")

    return api


def policy(changes: Mapping[str, str]) -> str:
    """The header's value."""
    return "; ".join(f"{directive} {value}" for directive, value in {**POLICY, **changes}.items())


def answer(request: Request, files: StaticFiles, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """The file, or 304 to who has it. Raises RouteNotFound."""
    found: StaticFile | None = files.find(name, accept_encoding=request.headers.get("accept-encoding"))
    if found is None:
        raise RouteNotFound(request.method, request.url.path)
    told = {**found.headers, **(headers or {})}
    if unchanged(request.headers.get("if-none-match"), found.etag):
        kept = {header: value for header, value in told.items() if header not in ("content-type", "content-encoding")}
        return Response(status_code=304, headers=kept)
    return Response(found.content, headers=told)
