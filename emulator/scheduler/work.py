"""The inputs of one pool: waiting, being worked on, tried again, given up. Knows containers only as slots."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.scheduler.calls import Calls, Input, failure
from emulator.scheduler.policy import limits, retry_delay
from emulator.scheduler.slot import Attempt, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from emulator.clock import Clock

MAX_LOSSES = 8
"""Containers that may die under one input before it is given up: it is likely the one that kills them.

As often as the client's own retries of internal failures, which cost nothing of the retry policy either.
"""
CANCEL_GRACE = 5.0
"""Seconds in which a container must let go of an input that was cancelled or timed out."""

Result = api_pb2.GenericResult


class Work:
    """Hands inputs to slots and takes their outcomes, with the retries and time limits of the function's definition."""

    def __init__(
        self,
        *,
        calls: Calls,
        clock: Clock,
        definition: Callable[[], api_pb2.Function],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        changed: Callable[[], None],
        note: Callable[[str, str], None] = lambda _task_id, _text: None,
    ) -> None:
        self._calls = calls
        self._clock = clock
        self._definition = definition
        self._spawn = spawn
        self._changed = changed
        self._note = note
        """Writes a line of the platform's own into the log: (task_id, text)."""
        self._pending: OrderedDict[Input, None] = OrderedDict()
        """A queue from which any input can be taken at once: a large map may be cancelled."""
        self._delayed: set[Input] = set()
        """Waiting for their next attempt."""
        self._closed: api_pb2.GenericResult | None = None

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def unfinished(self) -> int:
        """Inputs that wait for a container, now or once their backoff is over."""
        return len(self._pending) + len(self._delayed)

    def enqueue(self, item: Input, *, first: bool = False) -> None:
        if self._closed is not None:
            self._calls.finish(item, api_pb2.FunctionGetOutputsItem(result=self._closed))
        else:
            self._pending[item] = None
            if first:
                self._pending.move_to_end(item, last=False)
        self._changed()

    def take(self, slot: Slot) -> Input | None:
        """The next input for that slot, now an attempt of it."""
        for item in self._pending:
            # The container tells attempts apart by input id alone: never two of one input in one container.
            if item.input_id in slot.attempts:
                continue
            del self._pending[item]
            item.task_id = slot.task_id
            item.started_at = self._clock.time()
            deadline = self._clock.monotonic() + limits(self._definition()).timeout
            slot.attempts[item.input_id] = Attempt(item, item.retry_count, deadline)
            slot.idle_since = None
            return item
        return None

    def put_back(self, slot: Slot, input_ids: Sequence[str]) -> None:
        """Undo `take`: the slot's container has not seen these inputs, and nothing counts against them."""
        for input_id in reversed(input_ids):
            attempt = slot.attempts.get(input_id)
            if attempt is None:
                continue
            self._release(slot, input_id)
            if not attempt.settled and not attempt.item.done:
                attempt.item.task_id = ""
                self.enqueue(attempt.item, first=True)

    def complete(self, slot: Slot, output: api_pb2.FunctionPutOutputsItem) -> None:
        """A container has handed in an outcome. One for an attempt that it no longer holds is ignored."""
        attempt = slot.attempts.get(output.input_id)
        if attempt is None or attempt.retry_count != output.retry_count:
            return
        slot.served_at = self._clock.monotonic()
        self._release(slot, output.input_id)
        if not attempt.settled:
            self._conclude(
                attempt.item,
                api_pb2.FunctionGetOutputsItem(
                    result=output.result,
                    data_format=output.data_format,
                    task_id=slot.task_id,
                    input_started_at=output.input_started_at,
                    output_created_at=output.output_created_at,
                ),
            )

    def _release(self, slot: Slot, input_id: str) -> None:
        del slot.attempts[input_id]
        if not slot.active:
            slot.idle_since = self._clock.monotonic()
        self._changed()

    def _conclude(self, item: Input, output: api_pb2.FunctionGetOutputsItem) -> None:
        """Final, unless the outcome is a failure that the retry policy pays another attempt for."""
        final = (Result.GENERIC_STATUS_SUCCESS, Result.GENERIC_STATUS_TERMINATED)
        if output.result.status in final or item.call.cancelled or item.call.web:
            self._calls.finish(item, output)
            return
        delay = retry_delay(self._definition().retry_policy, item.retries)
        if delay is None:
            self._calls.finish(item, output)
            return
        item.retries += 1
        self._again(item)
        self._spawn(self._enqueue_later(item, delay))

    @staticmethod
    def _again(item: Input) -> None:
        item.retry_count += 1
        item.task_id = ""

    async def _enqueue_later(self, item: Input, delay: float) -> None:
        self._delayed.add(item)
        await self._clock.sleep(delay)
        self._delayed.discard(item)
        if not item.done:
            self.enqueue(item)

    def lose(self, slot: Slot, why: str) -> None:
        """The slot's container is gone: its inputs go back to the front of the queue, or are given up."""
        for attempt in reversed(slot.attempts.values()):
            item = attempt.item
            if attempt.settled or item.done:
                continue
            item.losses += 1
            answered = item.call.web and item.call.data_out.last_index > 0
            if answered or item.losses >= MAX_LOSSES or not item.call.data_in.whole:
                self._calls.finish(item, failure(Result.GENERIC_STATUS_INTERNAL_FAILURE, why))
            else:
                self._again(item)
                self.enqueue(item, first=True)
        slot.attempts.clear()

    def expire(self, slot: Slot, now: float) -> bool:
        """Time out what has run too long. True when the container ignored that and has to be killed."""
        for attempt in list(slot.attempts.values()):
            if now < attempt.deadline:
                continue
            if attempt.settled:
                return True
            self._settle(slot, attempt)
            seconds = int(limits(self._definition()).timeout)
            message = f"Task's current input {attempt.item.input_id} hit its timeout of {seconds}s"
            self._note(slot.task_id, f"{message}\n")
            self._conclude(attempt.item, failure(Result.GENERIC_STATUS_TIMEOUT, message))
        return False

    def cancel(self, item: Input, slot: Slot | None) -> None:
        """End an input for its caller now; its container, if any, is told to let go of it."""
        self._pending.pop(item, None)
        if slot is not None and (attempt := slot.attempts.get(item.input_id)) is not None:
            self._settle(slot, attempt)
        self._calls.finish(item, failure(Result.GENERIC_STATUS_TERMINATED, "Input was cancelled by user"))
        self._changed()

    def _settle(self, slot: Slot, attempt: Attempt) -> None:
        if attempt.settled:
            return
        attempt.settled = True
        attempt.deadline = self._clock.monotonic() + CANCEL_GRACE
        slot.cancel(attempt.item.input_id)

    def close(self, result: api_pb2.GenericResult) -> None:
        """No container will come any more: whoever waits, or comes later, is told so."""
        self._closed = result
        self.fail_pending(result)
        for item in self._delayed:
            self._calls.finish(item, api_pb2.FunctionGetOutputsItem(result=result))

    def fail_pending(self, result: api_pb2.GenericResult) -> None:
        """Containers cannot start: everyone who waits for one is told why."""
        pending, self._pending = self._pending, OrderedDict()
        for item in pending:
            self._calls.finish(item, api_pb2.FunctionGetOutputsItem(result=result))
