"""The lines of a batch's input and of its answers. Pure, but for the reading."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from web.auth import require_model
from web.batches import BatchError, Tokens
from web.errors import PermissionDenied

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from infra.settings import Models
    from web.caller import Caller
    from web.objects import ObjectKeeper

READ_BYTES = 4 * 1024 * 1024
MOST_ERRORS = 100
"""Mistakes in an input file that are told; there may be more."""
LONGEST_ID = 512
"""Characters of a `custom_id`."""
BOM = b"\xef\xbb\xbf"
EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")
CANCELLED = ("batch_cancelled", "The batch was cancelled before this request was executed.")


NONE = Tokens()
BREATH = 500
"""Lines that are worked on without a wait, after which others have their turn in this loop."""


async def others_turn() -> None:
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[None] = loop.create_future()
    loop.call_soon(turn.set_result, None)
    await turn


class LineTooLong(Exception):
    """`number`: of the line, from 1 on."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Line(NamedTuple):
    number: int
    """From 1 on, empty lines counted: for people."""
    place: int
    """From 0 on, empty lines not counted."""
    raw: bytes


async def lines_of(objects: ObjectKeeper, key: str, *, longest: int) -> AsyncIterator[Line]:
    """The lines of an object that are not empty. Raises LineTooLong, ObjectMissing, StateUnavailable."""
    number, place, start = 0, 0, 0
    rest = b""
    while True:
        read = await objects.read(key, start, READ_BYTES)
        last = len(read) < READ_BYTES
        if not start:
            read = read.removeprefix(BOM)
        start += READ_BYTES
        *whole, rest = (rest + read).split(b"\n")
        if last:
            whole, rest = [*whole, rest], b""
        for raw in whole:
            number += 1
            if len(raw) > longest:
                raise LineTooLong(number)
            if raw := raw.strip():
                yield Line(number, place, raw)
                place += 1
        if len(rest) > longest:
            raise LineTooLong(number + 1)
        if last:
            return


class Request(NamedTuple):
    custom_id: str
    body: dict[str, Any]


def request_in(raw: bytes) -> Request:
    """Of a line that has been checked."""
    given = orjson.loads(raw)
    return Request(given["custom_id"], given["body"])


class Checker:
    """Looks at each line of an input file, and says what is wrong with the file."""

    def __init__(self, *, endpoint: str, caller: Caller, models: Models, most: int) -> None:
        self.total = 0
        self.model: str | None = None
        """As the lines call it."""
        self.errors: list[BatchError] = []
        self._endpoint = endpoint
        self._caller = caller
        self._models = models
        self._most = most
        self._ids: set[bytes] = set()

    @property
    def hopeless(self) -> bool:
        """There is no need to look further."""
        return len(self.errors) >= MOST_ERRORS or self.total > self._most

    def look(self, line: Line) -> None:
        self.total += 1
        if self.total > self._most:
            message = f"The input file has more than {self._most} requests."
            self.errors.append(BatchError(code="too_many_tasks", message=message))
        elif (error := self._error(line)) is not None:
            self.errors.append(error)

    def end(self) -> None:
        if not self.total and not self.errors:
            self.errors.append(BatchError(code="empty_batch", message="The input file holds no requests."))

    def _error(self, line: Line) -> BatchError | None:
        def wrong(code: str, message: str, param: str | None = None) -> BatchError:
            return BatchError(code=code, message=message, param=param, line=line.number)

        try:
            given = orjson.loads(line.raw)
        except orjson.JSONDecodeError:
            return wrong("invalid_json_line", "This line is not parseable as valid JSON.")
        if not isinstance(given, dict):
            return wrong("invalid_json_line", "This line is not a JSON object.")
        for name in ("custom_id", "method", "url", "body"):
            if given.get(name) is None:
                return wrong("missing_required_parameter", f"Missing required parameter: '{name}'.", name)
        custom_id, body = given["custom_id"], given["body"]
        if not isinstance(custom_id, str) or not 0 < len(custom_id) <= LONGEST_ID:
            return wrong("invalid_custom_id", f"'custom_id' must be a text of 1 to {LONGEST_ID} letters.", "custom_id")
        if given["method"] != "POST":
            return wrong("invalid_method", "'method' must be 'POST'.", "method")
        if given["url"] != self._endpoint:
            return wrong("url_mismatch", f"'url' must be the batch's endpoint, '{self._endpoint}'.", "url")
        digest = hashlib.blake2b(custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._ids:
            return wrong("duplicate_custom_id", "Another line has the same 'custom_id'.", "custom_id")
        self._ids.add(digest)
        if not isinstance(body, dict) or not isinstance(model := body.get("model"), str):
            return wrong("invalid_request", "'body' must be a request that names a 'model'.", "body.model")
        return self._wrong_model(model, line.number)

    def _wrong_model(self, label: str, line: int) -> BatchError | None:
        if self.model is None:
            known = self._models.find(label)
            if known is None:
                message = f"The model '{label[:200]}' does not exist."
                return BatchError(code="model_not_found", message=message, param="body.model", line=line)
            try:
                require_model(self._caller, known)
            except PermissionDenied as error:
                return BatchError(code="model_not_allowed", message=error.message, param="body.model", line=line)
            self.model = label
        elif label != self.model:
            message = f"All requests of a batch ask one model: '{self.model}' before, and '{label[:200]}' here."
            return BatchError(code="mismatched_model", message=message, param="body.model", line=line)
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a line. `raw`: as it stands in the output file, or in the error file where it is not `good`."""

    place: int
    raw: bytes
    good: bool
    tokens: Tokens = NONE
    expired: bool = False


def answered(batch_id: str, line: Line, custom_id: str, *, status: int, request_id: str, body: Any) -> Result:
    """A line that was answered, one way or the other."""
    told = {
        "id": _id(batch_id, line), "custom_id": custom_id,
        "response": {"status_code": status, "request_id": request_id, "body": body}, "error": None,
    }  # fmt: skip
    good = status == 200
    return Result(line.place, orjson.dumps(told) + b"\n", good, tokens_in(body) if good else NONE)


def unanswered(batch_id: str, line: Line, custom_id: str, *, code: str, message: str) -> Result:
    """A line that was not."""
    told = {
        "id": _id(batch_id, line), "custom_id": custom_id, "response": None,
        "error": {"code": code, "message": message},
    }  # fmt: skip
    return Result(line.place, orjson.dumps(told) + b"\n", good=False, expired=code == EXPIRED[0])


def tokens_in(body: Any) -> Tokens:
    """The usage in an answer, in the words of any of the endpoints."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return NONE
    input_details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    output_details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    return Tokens(
        input=usage.get("prompt_tokens") or usage.get("input_tokens") or 0,
        output=usage.get("completion_tokens") or usage.get("output_tokens") or 0,
        cached=input_details.get("cached_tokens") or 0, reasoning=output_details.get("reasoning_tokens") or 0,
    )  # fmt: skip


def packed(results: list[Result]) -> bytes:
    """A part: how long the answers in it are, these, and the lines that failed."""
    good = b"".join(result.raw for result in results if result.good)
    return b"%016x\n" % len(good) + good + b"".join(result.raw for result in results if not result.good)


def unpacked(part: bytes) -> tuple[bytes, bytes]:
    """The answers and the failures."""
    end = 17 + int(part[:16], 16)
    return part[17:end], part[end:]


def _id(batch_id: str, line: Line) -> str:
    """The same however often the line is asked."""
    return "batch_req_" + hashlib.blake2b(f"{batch_id}/{line.place}".encode(), digest_size=12).hexdigest()
