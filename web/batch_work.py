"""The lines of a batch: each asked until it has its result, many at once, and their results kept in parts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from web.batch_lines import BREATH, Result, answered, lines_of, others_turn, packed, request_in, unanswered
from web.batches import Tokens, caller_again
from web.errors import InvalidRequest, to_wire
from web.files import to_its_end
from web.line_requests import answer_to

if TYPE_CHECKING:
    from infra.settings import Settings
    from web.batch_lease import Lease
    from web.batch_lines import Line, Request
    from web.batches import Batch
    from web.clock import Clock
    from web.line_requests import Asker, LineAnswer
    from web.objects import ObjectKeeper

PART_LINES = 1000
PART_BYTES = 4 * 1024 * 1024
"""A part is kept when it has so many lines or bytes, …"""
SHORTEST_PAUSE, LONGEST_PAUSE = 5.0, 60.0
"""… or after so many seconds: the longer the batch lasts, the longer, so that parts do not become too many."""
PAUSES = 100
"""Pauses that the time would have had room for so far."""
LAST_SECONDS = 20.0
"""For a worker that is told to go, to keep what it has."""


class Work:
    """Everything between the checked input and the parts. For one event loop, to be run once."""

    def __init__(
        self, lease: Lease, objects: ObjectKeeper, ask: Asker, *, settings: Settings, clock: Clock, concurrency: int
    ) -> None:
        batch = lease.batch
        self._lease = lease
        self._objects = objects
        self._ask = ask
        self._clock = clock
        self._concurrency = concurrency
        self._patience = settings.batches.line_seconds
        self._caller = caller_again(batch.caller)
        self._lines = lines_of(objects, batch.input_at, longest=settings.web.max_body_bytes)
        self._reading = asyncio.Lock()
        self._keeping = asyncio.Lock()
        self._asking: set[asyncio.Future[LineAnswer]] = set()
        self._results: list[Result] = []
        self._size = 0
        self._read = 0
        self._stopped: tuple[str, str] | None = None

    async def run(self) -> None:
        """Return once every line is done. Raises LeaseLost, ObjectMissing, StateUnavailable; what was answered until
        then is kept if that can be. Cancelled, likewise."""
        timer = asyncio.create_task(self._keep_now_and_then(), name="parts in time")
        askers = [asyncio.create_task(self._ask_lines(), name="lines") for _ in range(self._concurrency)]
        asked = asyncio.gather(*askers)
        try:
            await asyncio.wait((asked, timer), return_when=asyncio.FIRST_COMPLETED)
            await (asked if asked.done() else timer)  # the timer ends only by what keeps parts from being kept
        except BaseException:
            self._lease.patience = LAST_SECONDS
            raise
        finally:
            for task in (timer, *askers):
                task.cancel()
            await asyncio.gather(timer, asked, *askers, return_exceptions=True)
            await to_its_end(self._keep)

    def stop(self, code: str, message: str) -> None:
        """Lines that have no result yet fail for that reason; those that are asked now are asked no more."""
        if self._stopped is None:
            self._stopped = (code, message)
            for asking in list(self._asking):
                asking.cancel()

    async def _ask_lines(self) -> None:
        while (line := await self._next()) is not None:
            result = await self._result(line)
            self._results.append(result)
            self._size += len(result.raw)
            if len(self._results) >= PART_LINES or self._size >= PART_BYTES:
                await to_its_end(self._keep)

    async def _next(self) -> Line | None:
        async with self._reading:
            async for line in self._lines:
                self._read += 1
                if self._read % BREATH == 0:
                    await others_turn()
                if not self._lease.batch.is_done(line.place):
                    return line
        return None

    async def _result(self, line: Line) -> Result:
        batch = self._lease.batch
        request = request_in(line.raw)
        if self._stopped is None:
            if (refusal := _refusal(request)) is not None:
                return answered(batch.id, line, request.custom_id, status=400, request_id="", body=refusal)
            asking = asyncio.ensure_future(self._answer(batch, request))
            self._asking.add(asking)
            try:
                answer = await asking
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._stopped is None or task is None or task.cancelling():
                    raise
            else:
                return answered(
                    batch.id, line, request.custom_id, status=answer.status, request_id=answer.request_id,
                    body=_body_of(answer),
                )  # fmt: skip
            finally:
                self._asking.discard(asking)
        assert self._stopped is not None
        code, message = self._stopped
        return unanswered(batch.id, line, request.custom_id, code=code, message=message)

    async def _answer(self, batch: Batch, request: Request) -> LineAnswer:
        body = orjson.dumps(request.body)
        return await answer_to(
            self._ask, batch.endpoint, body, self._caller, clock=self._clock, patience=self._patience
        )  # fmt: skip

    async def _keep_now_and_then(self) -> None:
        began = self._clock.monotonic()
        while True:
            passed = self._clock.monotonic() - began
            await self._clock.sleep(min(LONGEST_PAUSE, max(SHORTEST_PAUSE, passed / PAUSES)))
            await to_its_end(self._keep)

    async def _keep(self) -> None:
        """Write what there is as the next part, and have it count. Never to be cancelled: nobody would know whether
        it counts."""
        async with self._keeping:
            results, self._results, self._size = self._results, [], 0
            if not results:
                return
            batch = self._lease.batch
            name = batch.part_at(batch.worker, batch.parts)
            part = packed(results)
            await self._lease.insist(lambda: self._objects.put(name, part))
            await self._lease.change(lambda one: with_results(one, results))


def with_results(batch: Batch, results: list[Result]) -> Batch:
    """The batch, one part further."""
    good = sum(result.good for result in results)
    tokens = Tokens()
    for result in results:
        tokens = tokens.plus(result.tokens)
    return replace(
        batch, parts=batch.parts + 1, done=batch.with_done(result.place for result in results), tries=0,
        completed=batch.completed + good, failed=batch.failed + len(results) - good, tokens=batch.tokens.plus(tokens),
        expired=batch.expired or any(result.expired for result in results),
    )  # fmt: skip


def _refusal(request: Request) -> dict[str, Any] | None:
    """The error of a request that no batch can have answered."""
    for name in ("stream", "background"):
        if request.body.get(name):
            message = f"'{name}' is not supported in a batch."
            return _told(InvalidRequest(message, param=name, code="unsupported_parameter"))
    return None


def _told(error: InvalidRequest) -> dict[str, Any]:
    wire = to_wire(error)
    return {"error": {"message": wire.message, "type": wire.type, "param": wire.param, "code": wire.code}}


def _body_of(answer: LineAnswer) -> Any:
    with contextlib.suppress(orjson.JSONDecodeError):
        return orjson.loads(answer.body)
    return {
        "error": {
            "message": "The answer was cut off.", "type": "server_error", "param": None, "code": "engine_died",
        }
    }  # fmt: skip
