"""`/v1/files`: what callers say of their files and are told of them, as OpenAI has it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from web.dialects.validation import explained
from web.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from web.files import File, Purpose

UploadPurpose = Literal["batch", "user_data"]
REFUSED_PURPOSES = {
    "assistants": "There are no assistants here",
    "fine-tune": "Models are not trained here",
    "vision": "Models are not trained here",
    "evals": "There are no evals here",
}
"""What OpenAI takes and this service has no use for."""
ANCHOR, SECONDS = "expires_after[anchor]", "expires_after[seconds]"
SHORTEST_LIFE, LONGEST_LIFE = 3600, 30 * 86400


def _whole(value: Any) -> Any:
    """Forms hold only text."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class ExpiresAfter(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")
    anchor: Literal["created_at"]
    seconds: Annotated[int, BeforeValidator(_whole), Field(ge=SHORTEST_LIFE, le=LONGEST_LIFE)]


class FileObject(BaseModel):
    """Times are whole seconds since the epoch."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Literal["batch", "batch_output", "user_data"]
    status: Literal["processed"] = "processed"
    status_details: None = None


class FilePage(BaseModel):
    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedFile(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class Wanted(NamedTuple):
    purpose: Purpose
    expires_in: float | None
    """Seconds; None: as is usual for the purpose."""


def check_purpose(purpose: str) -> Purpose:
    """Raises InvalidRequest."""
    if (why := REFUSED_PURPOSES.get(purpose)) is not None:
        raise InvalidRequest(
            f"Files of the purpose '{purpose}' are not taken. {why}.", param="purpose", code="unsupported_value"
        )
    if purpose not in (known := get_args(UploadPurpose)):
        expected = " or ".join(f"'{one}'" for one in known)
        raise InvalidRequest(
            f"Invalid value for 'purpose': expected {expected}.", param="purpose", code="invalid_value"
        )
    return purpose  # type: ignore[return-value]


def wanted(fields: Mapping[str, str]) -> Wanted:
    """Of the fields of an upload's form, beside its file. Raises InvalidRequest."""
    for name in fields:
        if name not in ("purpose", ANCHOR, SECONDS):
            raise InvalidRequest(f"Unknown parameter: '{name[:100]}'.", param=name[:100], code="unknown_parameter")
    if "purpose" not in fields:
        raise InvalidRequest(
            "Missing required parameter: 'purpose'.", param="purpose", code="missing_required_parameter"
        )  # fmt: skip
    purpose = check_purpose(fields["purpose"])
    told = {label: fields[name] for label, name in (("anchor", ANCHOR), ("seconds", SECONDS)) if name in fields}
    if not told:
        return Wanted(purpose, None)
    try:
        return Wanted(purpose, ExpiresAfter.model_validate(told).seconds)
    except ValidationError as error:
        mistake = explained(error.errors(include_url=False), told)
        name = f"expires_after[{mistake.param}]"
        message = mistake.message.replace(f"'{mistake.param}'", f"'{name}'")
        raise InvalidRequest(message, param=name, code=mistake.code) from None


def file_object(file: File) -> FileObject:
    return FileObject(
        id=file.id, bytes=file.size, created_at=int(file.created_at), filename=file.filename, purpose=file.purpose,
        expires_at=None if file.expires_at is None else int(file.expires_at),
    )  # fmt: skip


def page_of(files: Sequence[File], *, has_more: bool) -> FilePage:
    shown = [file_object(file) for file in files]
    ends = (shown[0].id, shown[-1].id) if shown else (None, None)
    return FilePage(data=shown, first_id=ends[0], last_id=ends[1], has_more=has_more)


FORM = {
    "type": "object",
    "required": ["file", "purpose"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary"},
        "purpose": {"type": "string", "enum": list(get_args(UploadPurpose))},
        ANCHOR: {"type": "string", "enum": ["created_at"]},
        SECONDS: {"type": "integer", "minimum": SHORTEST_LIFE, "maximum": LONGEST_LIFE},
    },
    "dependentRequired": {ANCHOR: [SECONDS], SECONDS: [ANCHOR]},
}
"""The form of an upload, as JSON Schema."""
