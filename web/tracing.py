"""Traces: the seam through which they are recorded, and what is told of a request. OpenTelemetry is not known here.

One trace holds the caller's span, if it told one (`traceparent`, W3C Trace Context), the request's here, the call of
the engine, and the engine's own. Names of attributes are those of OpenTelemetry's semantic conventions, for HTTP and
for generative AI. Nothing in them is what was said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import Scope

    from infra.settings import EngineKind
    from web.dialects.request import GenerationRequest
    from web.record import Record, Story

TRACE_HEADERS: Final = frozenset({b"traceparent", b"tracestate"})
OPERATIONS: Final = {"chat": "chat", "text": "text_completion"}
PARAMETERS: Final = {
    "max_tokens": "gen_ai.request.max_tokens", "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature", "top_p": "gen_ai.request.top_p", "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty", "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed", "n": "gen_ai.request.choice.count",
}  # fmt: skip
"""Of a request's fields, those that are numbers. (What it is to stop at is a text of the caller's.)"""


class Trace(Protocol):
    """Of one request. Methods must be quick and never raise. Times are the clock's monotonic seconds."""

    def call(self, name: str, attributes: Mapping[str, Any], now: float) -> None:
        """An engine is asked."""

    def headers(self) -> Mapping[str, str]:
        """What tells an engine of the trace."""

    def end(self, name: str, attributes: Mapping[str, Any], record: Record, now: float, *, failed: bool) -> None:
        """It is over. `failed`: by the service's own fault."""


class Tracing(Protocol):
    """What records traces. Made without a thread or a connection, so that a memory snapshot may hold it."""

    def open(self) -> None:
        """From now on traces are recorded."""

    def begin(self, headers: Mapping[str, str], now: float, *, cause: str | None = None) -> Trace | None:
        """A request comes, with these of `TRACE_HEADERS`. `cause`: the `traceparent` of an earlier one, which it is
        linked to. None: nothing is recorded of it."""

    def close(self) -> None:
        """What was recorded is sent. Blocks, for a few seconds at most."""


class Phase(NamedTuple):
    """A part of a request's time. `of_the_call`: while an engine was asked."""

    name: str
    begun: float
    ended: float
    of_the_call: bool


def trace_headers(scope: Scope) -> dict[str, str]:
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in TRACE_HEADERS}


def call_attributes(request: GenerationRequest, *, name: str, kind: EngineKind, rid: str) -> dict[str, Any]:
    """What the call of an engine is told with at its beginning. `name`: of the model. Pure."""
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": OPERATIONS[request.kind], "gen_ai.provider.name": kind, "gen_ai.request.model": name,
        "gen_ai.request.stream": request.stream, "gen_ai.response.id": rid,
    }  # fmt: skip
    for field, attribute in PARAMETERS.items():
        value = request.fields.get(field)
        if type(value) in (int, float) and (field, value) != ("n", 1):
            attributes[attribute] = value
    return attributes


def answer_attributes(story: Story | None, error: str | None) -> dict[str, Any]:
    """And at its end. Pure."""
    attributes: dict[str, Any] = {} if error is None else {"error.type": error}
    if story is None:
        return attributes
    if (usage := story.usage) is not None:
        attributes |= {
            "gen_ai.usage.input_tokens": usage.prompt,
            "gen_ai.usage.output_tokens": usage.completion,
            "gen_ai.usage.cache_read.input_tokens": usage.cached,
        }
        if usage.reasoning is not None:
            attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning
    if story.first is not None and story.admitted is not None:
        attributes["gen_ai.response.time_to_first_chunk"] = story.first - story.admitted
    return attributes


def request_attributes(*, method: str, route: str | None, status: int, request_id: str | None) -> dict[str, Any]:
    """What a request is told with at its end. Pure."""
    attributes: dict[str, Any] = {"http.request.method": method, "http.response.status_code": status}
    if route is not None:
        attributes["http.route"] = route
    if request_id is not None:
        attributes["llm.request.id"] = request_id
    if status >= 500:
        attributes["error.type"] = str(status)
    return attributes


def phases(story: Story | None) -> Iterator[Phase]:
    """The parts of a request's time, in their order. Pure."""
    if story is None:
        return
    if story.admitted is not None:
        yield Phase("queue", story.began, story.admitted, of_the_call=False)
    if story.cold is not None:
        yield Phase("boot", story.cold, story.ended if story.opened is None else story.opened, of_the_call=True)
    if story.sent is not None and story.first is not None:
        yield Phase("prefill", story.sent, story.first, of_the_call=True)
    if story.first is not None and story.last is not None:
        yield Phase("decode", story.first, story.last, of_the_call=True)
