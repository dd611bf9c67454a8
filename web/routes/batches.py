"""`/v1/batches`: requests in a file, answered while nobody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError

from web.asgi import read_body
from web.caller import caller_of
from web.dialects.batches import BatchObject, BatchPage, NewBatch, batch_object, page_of
from web.dialects.validation import explained, json_object
from web.routes.files import Cursor, owner

if TYPE_CHECKING:
    from web.batch_requests import BatchRequests

ROOT = "/v1/batches"
ONE = f"{ROOT}/{{batch_id}}"
LONGEST_BODY = 128 * 1024
UNREACHED: dict[int | str, dict[str, Any]] = {503: {"description": "Batches cannot be reached"}}
NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"description": "There is no such batch"}, **UNREACHED}


def router(batches: BatchRequests) -> APIRouter:
    api = APIRouter(tags=["batches"])

    @api.post(
        ROOT, summary="Have the requests of a file answered",
        openapi_extra={
            "requestBody": {"required": True, "content": {"application/json": {"schema": NewBatch.model_json_schema()}}}
        },
        responses={
            400: {"description": "The request is not valid"}, 413: {"description": "It is too large"},
            415: {"description": "It is no JSON"}, 429: {"description": "Too many requests, or unfinished batches"},
            **UNREACHED,
        },
    )  # fmt: skip
    async def create(request: Request) -> BatchObject:
        owner(request)  # may it ask at all?
        given = json_object(await read_body(request.scope, request.receive, limit=LONGEST_BODY))
        try:
            wanted = NewBatch.model_validate(given)
        except ValidationError as error:
            raise explained(error.errors(include_url=False), given) from None
        return batch_object(await batches.create(caller_of(request.scope), wanted))

    @api.get(ROOT, summary="The caller's batches, the newest first", responses=UNREACHED)
    async def listed(
        request: Request, after: Cursor = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> BatchPage:
        return page_of(await batches.listed(owner(request), after=after, limit=limit + 1), limit=limit)

    @api.get(ONE, summary="A batch", responses=NOT_THERE)
    async def get(request: Request, batch_id: str) -> BatchObject:
        return batch_object(await batches.get(owner(request), batch_id))

    @api.post(
        f"{ONE}/cancel", summary="Stop a batch; what was answered is kept",
        responses={400: {"description": "It is over"}, **NOT_THERE},
    )  # fmt: skip
    async def cancel(request: Request, batch_id: str) -> BatchObject:
        return batch_object(await batches.cancel(owner(request), batch_id))

    return api
