"""The form of an upload as it comes: its file is handed on piece by piece, its few fields are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from web.asgi import CallerLeft, header
from web.dialects.files import check_purpose
from web.errors import InvalidRequest, UnsupportedMedia
from web.file_errors import FileTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Receive, Scope

    from web.files import Upload

MOST_FIELD_BYTES = 16 * 1024
"""Of all fields together, the file not counted."""
MOST_PARTS = 32
FORM_BYTES = 64 * 1024
"""What a form may have around its file."""
LONGEST_FILENAME = 255


class Event(NamedTuple):
    """`begin`: a part named `name` begins, a file's if it has a `filename`; `data` of it; `end` of it."""

    kind: Literal["begin", "data", "end"]
    name: str = ""
    filename: str | None = None
    data: bytes = b""


class Form:
    """Bytes of a form to events. Pure."""

    def __init__(self, boundary: bytes) -> None:
        """Raises InvalidRequest."""
        self.ended = False
        """Whether the form has come whole."""
        self._events: list[Event] = []
        self._headers: dict[bytes, bytes] = {}
        self._field, self._value = b"", b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part, "on_header_field": self._on_field, "on_header_value": self._on_value,
                    "on_header_end": self._on_header, "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data, "on_part_end": self._on_part_end, "on_end": self._on_end,
                },
            )  # fmt: skip
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def feed(self, data: bytes) -> list[Event]:
        """Raises InvalidRequest."""
        self._events = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed(str(error)) from None
        return self._events

    def _part(self) -> None:
        self._headers = {}

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise _malformed("a part of it has no name")
        filename = options.get(b"filename")
        name = options[b"name"].decode(errors="replace")
        self._events.append(Event("begin", name, None if filename is None else filename.decode(errors="replace")))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(Event("data", data=data[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(Event("end"))

    def _on_end(self) -> None:
        self.ended = True


class UploadForm:
    """A form with one file in the part `file`. `fields` and `filename` are known once it was read."""

    def __init__(self, scope: Scope, receive: Receive, *, limit: int) -> None:
        """`limit`: of the file's bytes. Raises UnsupportedMedia, InvalidRequest, FileTooLarge."""
        kind, options = parse_options_header((header(scope, b"content-type") or "").encode("latin-1"))
        if kind.lower() != b"multipart/form-data":
            raise UnsupportedMedia("A file is uploaded as a form: send 'content-type: multipart/form-data'.")
        if not (boundary := options.get(b"boundary")):
            raise _malformed("its content type names no boundary")
        told = header(scope, b"content-length")
        if told is not None and told.isdecimal() and int(told) > limit + FORM_BYTES:
            raise FileTooLarge(limit)
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._form = Form(boundary)
        self._receive = receive

    async def read(self, upload: Upload) -> None:
        """Raises InvalidRequest, CallerLeft, and what `upload` does."""
        inside = Event("end")
        value = bytearray()
        size = parts = 0
        async for event in self._events():
            if event.kind == "begin":
                inside = event
                value.clear()
                parts += 1
                self._begin(event, parts=parts)
            elif event.kind == "data" and inside.filename is not None:
                await upload.write(event.data)
            elif event.kind == "data":
                value += event.data
                size += len(event.data)
                if size > MOST_FIELD_BYTES:
                    raise _malformed(f"its fields have more than {MOST_FIELD_BYTES} bytes")
            elif inside.filename is None:
                self._keep(inside.name, bytes(value))

    async def _events(self) -> AsyncIterator[Event]:
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerLeft
            for event in self._form.feed(message.get("body", b"")):
                yield event
            more = message.get("more_body", False)
        if not self._form.ended:
            raise _malformed("it does not come to its end")

    def _begin(self, part: Event, *, parts: int) -> None:
        if parts > MOST_PARTS:
            raise _malformed(f"it has more than {MOST_PARTS} parts")
        if part.filename is None:
            return
        if part.name != "file" or self.filename is not None:
            raise InvalidRequest(
                "An upload has one file, in 'file'.", param=part.name[:100], code="unknown_parameter"
            )  # fmt: skip
        # As it is a name, no folder: some clients send the path that the file has with them.
        self.filename = part.filename.replace("\\", "/").rpartition("/")[2][:LONGEST_FILENAME] or "file"
        if (purpose := self.fields.get("purpose")) is not None:
            check_purpose(purpose)

    def _keep(self, name: str, value: bytes) -> None:
        if name == "file":
            raise InvalidRequest("'file' must be a file, not a text.", param="file", code="invalid_type")
        if name in self.fields:
            raise InvalidRequest(f"'{name[:100]}' is there twice.", param=name[:100], code="invalid_value")
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"'{name[:100]}' is not UTF-8.", param=name[:100], code="invalid_value") from None


def _malformed(why: str) -> InvalidRequest:
    return InvalidRequest(f"The request's form cannot be read: {why[:200]}.", code="invalid_multipart")
