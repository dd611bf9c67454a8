"""`/v1/files`: what callers upload, and what batches wrote for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from web.auth import require_scope
from web.caller import caller_of
from web.dialects.files import FORM, DeletedFile, FileObject, FilePage, file_object, page_of, wanted
from web.errors import InvalidRequest
from web.file_errors import UploadTooSlow
from web.sessions import owner_of
from web.uploads import UploadForm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from infra.batching import Files as FilesSettings
    from web.clock import Clock
    from web.files import Files

ROOT = "/v1/files"
ONE = f"{ROOT}/{{file_id}}"
Cursor = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
NOT_THERE: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such file"}, 503: {"description": "Files cannot be reached"},
}  # fmt: skip


def owner(request: Request) -> str:
    """Whose files and batches a request is about. Raises PermissionDenied."""
    caller = caller_of(request.scope)
    require_scope(caller, "inference")
    return owner_of(caller)


def router(files: Files, *, settings: FilesSettings, clock: Clock) -> APIRouter:
    api = APIRouter(tags=["files"])

    @api.post(
        ROOT, summary="Upload a file",
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FORM}}}},
        responses={
            400: {"description": "The form is not valid"}, 408: {"description": "It took too long"},
            413: {"description": "The file, or all of them, would be too large"},
            415: {"description": "It is no form"}, 429: {"description": "Too many requests"},
            503: {"description": "Files cannot be reached"},
        },
    )  # fmt: skip
    async def create(request: Request) -> FileObject:
        form = UploadForm(request.scope, request.receive, limit=settings.max_file_bytes)
        async with files.upload(owner(request)) as upload:
            try:
                async with clock.timeout(settings.upload_seconds):
                    await form.read(upload)
            except TimeoutError:
                raise UploadTooSlow(settings.upload_seconds) from None
            purpose, expires_in = wanted(form.fields)
            if form.filename is None:
                raise InvalidRequest(
                    "Missing required parameter: 'file'.", param="file", code="missing_required_parameter"
                )  # fmt: skip
            return file_object(await upload.finish(filename=form.filename, purpose=purpose, expires_in=expires_in))

    @api.get(ROOT, summary="The caller's files", responses={503: {"description": "Files cannot be reached"}})
    async def listed(
        request: Request,
        after: Cursor = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> FilePage:
        shown, more = await files.listed(
            owner(request), after=after, limit=limit, newest_first=order == "desc", purpose=purpose
        )
        return page_of(shown, has_more=more)

    @api.get(ONE, summary="A file", responses=NOT_THERE)
    async def get(request: Request, file_id: str) -> FileObject:
        return file_object(await files.get(owner(request), file_id))

    @api.get(
        f"{ONE}/content", summary="What is in a file", response_class=StreamingResponse,
        responses={200: {"content": {"application/octet-stream": {}}}, **NOT_THERE},
    )  # fmt: skip
    async def content(request: Request, file_id: str) -> StreamingResponse:
        file = await files.get(owner(request), file_id)
        headers = {
            "content-length": str(file.size),
            "content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}",
        }
        pieces = files.content(file)
        first = await anext(pieces, b"")  # so that what is not there, or out of reach, is still told by a status
        return StreamingResponse(_after(first, pieces), media_type="application/octet-stream", headers=headers)

    @api.delete(ONE, summary="Delete a file; a batch that reads it goes on", responses=NOT_THERE)
    async def delete(request: Request, file_id: str) -> DeletedFile:
        await files.delete(owner(request), file_id)
        return DeletedFile(id=file_id)

    return api


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in rest:
        yield piece
