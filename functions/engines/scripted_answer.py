"""One answer of the scripted engine, told by its script at its script's pace."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from functions.engines.script import Chunks, logprobs_of, prompt_words

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from functions.engines.script import Json, Script
    from functions.engines.scripted_words import PrefixCache


@dataclass(kw_only=True)
class Record:
    """One request. Times are seconds since the epoch."""

    rid: str
    session: str | None
    """The header `Modal-Session-ID`."""
    headers: list[str]
    """Names of the headers that came, in lower case (values may be secret)."""
    body: Json
    started: float
    port: int = 0
    """The caller's: requests with the same one came over one connection."""
    tokens: int = 0
    """Sent so far."""
    ended: float | None = None
    outcome: str = "running"
    """running, finished, aborted, failed."""
    reason: str | None = None
    """Of an abort, what came first: `closed` (the connection) or `abort_request`."""
    closed: float | None = None
    abort: float | None = None
    """When `/abort_request` named it, also if it had ended by then."""
    abort_session: str | None = None


def prompts_of(body: Json) -> int:
    """How many prompts are to be completed: a list of texts or of token lists is several, a list of tokens is one."""
    prompt = body.get("prompt")
    return len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1


class ScriptedFailure(Exception):
    """The script says that the stream fails here, and the error has been sent."""


class Answer:
    """One generation, told by its script."""

    def __init__(
        self, request: web.Request, *, script: Script, record: Record, crash: Callable[[], Awaitable[None]],
        prefixes: PrefixCache | None = None,
    ) -> None:  # fmt: skip
        self._request = request
        self._body = body = record.body
        self._script = script
        self._crash = crash
        self._record = record
        self._chat = request.path == "/v1/chat/completions"
        self._choices = int(body.get("n") or 1) * prompts_of(body)
        limit = body.get("max_tokens")
        self._pieces, self._cut = script.pieces(limit=limit if isinstance(limit, int) else None)
        self._chunks = Chunks(
            rid=record.rid, model=str(body.get("model", "")), created=int(record.started), chat=self._chat
        )
        self._words = prompt_words(body)
        self._prefixes = prefixes
        self._cached = prefixes.found(self._words) if prefixes is not None else 0
        self._due = time.perf_counter()

    async def run(self) -> web.StreamResponse:
        """Say it all. The response's headers go with the first token, as SGLang's do."""
        await self._pace(self._script.ttft)
        if (early := await self._disturb(None)) is not None:
            return early
        if not self._body.get("stream"):
            return await self._plain()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        with contextlib.suppress(ConnectionError):  # as in `_write`
            await response.prepare(self._request)
        try:
            await self._tell(response)
        except ScriptedFailure:
            self._record.outcome = "failed"
        except asyncio.CancelledError:
            if self._record.reason != "abort_request":
                raise
            with contextlib.suppress(ConnectionError):
                await response.write(b"".join(self._chunks.finish(index, "abort") for index in range(self._choices)))
        with contextlib.suppress(ConnectionError):
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        return response

    async def _tell(self, response: web.StreamResponse) -> None:
        chunks, choices = self._chunks, range(self._choices)
        await self._write(response, b"".join(chunks.role(index) for index in choices))
        thoughts = self._script.thoughts() if self._chat else []
        for piece in thoughts:
            await self._write(response, b"".join(chunks.thought(index, piece) for index in choices))
            await self._pace(self._script.gap)
        for position, piece in enumerate(self._pieces):
            if position:
                await self._pace(self._script.gap)
                await self._disturb(response)
            logprobs = self._logprobs(piece)
            await self._write(response, b"".join(chunks.token(index, piece, logprobs=logprobs) for index in choices))
            self._record.tokens += 1
        await self._disturb(response)
        calls = self._calls()
        for position, call in enumerate(calls):
            await self._write(response, b"".join(chunks.tool_call(index, position, call) for index in choices))
        await self._write(response, b"".join(chunks.finish(index, self._finish_reason()) for index in choices))
        if (self._body.get("stream_options") or {}).get("include_usage"):
            await self._write(response, chunks.usage(self._usage()))
        self._record.outcome = "finished"

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if not data:
            return
        # A caller who has gone ends this task by a cancel, or (a deaf engine) does not end it.
        with contextlib.suppress(ConnectionError):
            await response.write(data)

    async def _disturb(self, response: web.StreamResponse | None) -> web.Response | None:
        """Crash, hang, cut or fail if the script says so here."""
        script, sent = self._script, self._record.tokens
        if script.crash_after == sent:
            await self._crash()
        if script.hang_after == sent:
            await asyncio.Event().wait()
        if script.cut_after == sent and self._request.transport is not None:
            self._record.outcome = "failed"
            self._request.transport.close()
            raise ConnectionResetError("cut, as scripted")
        if script.error_after == sent:
            self._record.outcome = "failed"
            if response is None:
                return web.json_response(script.error(), status=script.error_status)
            await response.write(self._chunks.error(script.error()))
            raise ScriptedFailure
        return None

    async def _plain(self) -> web.Response:
        for position, piece in enumerate(self._pieces):
            if position:
                await self._pace(self._script.gap)
                if (failed := await self._disturb(None)) is not None:
                    return failed
            del piece
            self._record.tokens += 1
        self._record.outcome = "finished"
        text = "".join(self._pieces)
        envelope: Json = {"id": self._record.rid, "created": int(self._record.started), "model": self._chunks.model}
        choice: Json = {"finish_reason": self._finish_reason(), "logprobs": None}
        if self._chat:
            message = {"role": "assistant", "content": text, "reasoning_content": self._script.reasoning}
            envelope["object"], choice["message"] = "chat.completion", message
        else:
            envelope["object"], choice["text"] = "text_completion", text
        envelope["choices"] = [choice | {"index": index} for index in range(self._choices)]
        return web.json_response(envelope | {"usage": self._usage()})

    def _calls(self) -> list[Json]:
        """Those of the script, until the conversation ends with a tool's result: then only the text is said."""
        messages = self._body.get("messages") or [{}]
        has_result = isinstance(messages[-1], dict) and messages[-1].get("role") == "tool"
        return self._script.tool_calls if self._chat and not has_result else []

    def _finish_reason(self) -> str:
        if self._cut:
            return "length"
        return "tool_calls" if self._calls() else "stop"

    def _logprobs(self, piece: str) -> Json | None:
        wanted = self._body.get("logprobs")
        if wanted is None or wanted is False:
            return None
        return logprobs_of(piece, chat=self._chat, top=int(self._body.get("top_logprobs") or 0))

    def _usage(self) -> Json:
        said = (len(self._script.thoughts()) if self._chat else 0) + len(self._pieces)
        completion = self._choices * said
        prompt = len(self._words) if self._script.prompt_tokens is None else self._script.prompt_tokens
        usage: Json = {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
        }  # fmt: skip
        if self._prefixes is not None:
            self._prefixes.keep(self._words + "".join(self._pieces).split())
        cached = self._script.cached_tokens or self._cached
        return usage | {"prompt_tokens_details": {"cached_tokens": cached} if cached else None}

    async def _pace(self, seconds: float) -> None:
        """Wait until the next token is due: by an absolute schedule, so that lateness does not add up."""
        self._due += seconds
        remaining = self._due - time.perf_counter()
        if remaining > 0:
            await asyncio.sleep(remaining)
