"""`/v1/batches`: what callers say of their batches and are told of them, as OpenAI has it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from web.dialects.files import LONGEST_LIFE, SHORTEST_LIFE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from web.batches import Batch

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
MOST_METADATA = 16


def _known(value: object) -> object:
    if isinstance(value, str) and value.startswith("/v1/") and value not in ENDPOINTS:
        raise ValueError(f"'{value[:100]}' cannot be asked in a batch here; expected one of {', '.join(ENDPOINTS)}")
    return value


class _Given(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class OutputExpiresAfter(_Given):
    """`seconds` after the file was made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE)]


MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]


class NewBatch(_Given):
    input_file_id: Annotated[str, Field(min_length=1, max_length=128)]
    endpoint: Annotated[Endpoint, BeforeValidator(_known)]
    completion_window: Literal["24h"]
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MOST_METADATA)] | None = None
    output_expires_after: OutputExpiresAfter | None = None


class ErrorObject(BaseModel):
    code: str
    message: str
    param: str | None
    line: int | None


class ErrorList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ErrorObject]


class RequestCounts(BaseModel):
    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    cached_tokens: int


class OutputDetails(BaseModel):
    reasoning_tokens: int


class UsageObject(BaseModel):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchObject(BaseModel):
    """Times are whole seconds since the epoch."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: ErrorList | None
    input_file_id: str
    completion_window: Literal["24h"] = "24h"
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: UsageObject
    metadata: dict[str, str] | None


class BatchPage(BaseModel):
    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch_object(batch: Batch) -> BatchObject:
    """The files are told of once they are there."""

    def when(name: str) -> int | None:
        at = batch.times.get(name)
        return None if at is None else int(at)

    errors = [ErrorObject(code=e.code, message=e.message, param=e.param, line=e.line) for e in batch.errors]
    tokens = batch.tokens
    return BatchObject(
        id=batch.id, endpoint=batch.endpoint, model=batch.model, errors=ErrorList(data=errors) if errors else None,
        input_file_id=batch.input_file_id, status=batch.status, created_at=int(batch.created_at),
        expires_at=int(batch.expires_at), output_file_id=None if batch.unfinished else batch.output_file_id,
        error_file_id=None if batch.unfinished else batch.error_file_id,
        request_counts=RequestCounts(total=batch.total, completed=batch.completed, failed=batch.failed),
        usage=UsageObject(
            input_tokens=tokens.input, input_tokens_details=InputDetails(cached_tokens=tokens.cached),
            output_tokens=tokens.output, output_tokens_details=OutputDetails(reasoning_tokens=tokens.reasoning),
            total_tokens=tokens.input + tokens.output,
        ),
        metadata=None if batch.metadata is None else dict(batch.metadata), in_progress_at=when("in_progress_at"),
        finalizing_at=when("finalizing_at"), completed_at=when("completed_at"), failed_at=when("failed_at"),
        expired_at=when("expired_at"), cancelling_at=when("cancelling_at"), cancelled_at=when("cancelled_at"),
    )  # fmt: skip


def page_of(batches: Sequence[Batch], *, limit: int) -> BatchPage:
    """Of one more than fit, if there are."""
    shown = [batch_object(batch) for batch in batches[:limit]]
    ends = (shown[0].id, shown[-1].id) if shown else (None, None)
    return BatchPage(data=shown, first_id=ends[0], last_id=ends[1], has_more=len(batches) > limit)
