"""A log's lines: put together from pieces, cut to ranges, filtered, counted and followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib import GRPCError
from hypothesis import given
from hypothesis import strategies as st
from modal_proto import api_pb2

from emulator.protocol.containers import ContainerHandlers
from emulator.protocol.dispatch import Caller
from emulator.protocol.entries import Filter, container_output, container_state, entries, output, selected
from emulator.protocol.logs import LogHandlers
from emulator.scheduler.history import History
from emulator.state import App, AppLog, FunctionRecord, State
from tests.emulator.heart_kit import FakeMachine, TurnedClock, machine, settle, slot_of, succeeded, taken
from tests.emulator.sandboxes_kit import no_sandboxes

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["machine"]

OUT, ERR = api_pb2.FILE_DESCRIPTOR_STDOUT, api_pb2.FILE_DESCRIPTOR_STDERR
CLIENT = Caller()
ALWAYS = (0.0, 1e12)


def lines(batches: Iterable[api_pb2.TaskLogsBatch], wanted: Filter = Filter()) -> list[str]:  # noqa: B008
    return [line.data for line in entries(batches, wanted, *ALWAYS)]


def test_a_piece_of_output_is_an_item_for_each_line_and_carriage_returns_end_none() -> None:
    batch = output("one\ntwo\r10%\r20%\nrest", OUT, now=1.0)
    assert [item.data for item in batch.items] == ["one\n", "two\r10%\r20%\n", "rest"]


def test_lines_that_come_in_pieces_are_whole_however_others_come_between() -> None:
    batches = [
        output("load", OUT, now=1, task_id="ta-1"),
        output("warn", ERR, now=2, task_id="ta-1"),
        output("other\n", OUT, now=3, task_id="ta-2"),
        output("ing\nnext", OUT, now=4, task_id="ta-1"),
        output("ing\n", ERR, now=5, task_id="ta-1"),
    ]
    assert lines(batches) == ["loading\n", "warning\n", "other\n", "next"]


@given(st.text(alphabet="ab\n", max_size=30), st.data())
def test_however_output_is_cut_its_lines_are_the_same(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    batches = [output(piece, OUT, now=1, task_id="ta-1") for piece in pieces if piece]
    assert lines(batches) == text.splitlines(keepends=True)


def test_a_search_finds_what_was_written_in_two_pieces() -> None:
    batches = [output("lo", OUT, now=1), output("ad\n", OUT, now=2)]
    assert lines(batches, Filter(search="load")) == ["load\n"]


def test_a_function_is_wanted_with_its_variants_and_a_variant_alone() -> None:
    batches = [
        output("base\n", OUT, now=1, function_id="fu-1", root_function_id="fu-1"),
        output("variant\n", OUT, now=1, function_id="fu-2", root_function_id="fu-1"),
    ]
    assert lines(batches, Filter(function_id="fu-1")) == ["base\n", "variant\n"]
    assert lines(batches, Filter(function_id="fu-1", variant_id="fu-1")) == ["base\n"]
    assert lines(batches, Filter(function_id="fu-1", variant_id="fu-2")) == ["variant\n"]


def test_who_follows_gets_pieces_as_they_come_and_of_a_batch_what_is_wanted() -> None:
    mixed = output("mine", OUT, now=1, call_id="fc-1")
    mixed.items.append(api_pb2.TaskLogs(data="other", function_call_id="fc-2"))
    (batch,) = selected([mixed], Filter(call_id="fc-1", search="never"))
    assert [item.data for item in batch.items] == ["mine"]
    assert list(selected([mixed], Filter(task_id="ta-9"))) == []


# Behind the handlers


class Logged:
    """An app with a log, and who asks for it."""

    def __init__(self, state: api_pb2.AppState.ValueType = api_pb2.APP_STATE_EPHEMERAL) -> None:
        self.clock = TurnedClock()
        self.history = History()
        self.app = App("ap-1", "app", "main", state, 0.0, 0.0)
        self.handlers = LogHandlers(State(apps={"ap-1": self.app}), self.clock, self.history, no_sandboxes(self.clock))

    def write(self, text: str, *, ago: float = 0.0, task_id: str = "") -> None:
        self.app.log.append(output(text, OUT, now=self.clock.time() - ago, task_id=task_id))

    async def read(self, **request: str) -> tuple[str, bool, str]:
        """What there is now, whether that is all that there will be, and where it goes on."""
        text, over, last = "", False, ""
        asked = api_pb2.AppGetLogsRequest(**{"app_id": "ap-1", **request})
        async for batch in self.handlers.AppGetLogs(asked, CLIENT):
            text += "".join(item.data for item in batch.items)
            over, last = over or batch.app_done, batch.entry_id or last
        return text, over, last


async def test_a_run_is_followed_from_its_beginning_and_a_deployed_app_from_just_now() -> None:
    run = Logged()
    run.write("old\n", ago=100)
    assert (await run.read())[0] == "old\n"
    deployed = Logged(api_pb2.APP_STATE_DEPLOYED)
    deployed.write("old\n", ago=100)
    deployed.write("just now\n", ago=0.5)
    text, over, last = await deployed.read()
    assert (text, over) == ("just now\n", False)
    deployed.write("new\n")
    assert (await deployed.read(last_entry_id=last))[0] == "new\n"


async def test_who_began_to_follow_a_deployed_app_that_was_silent_misses_nothing_when_it_comes_back() -> None:
    deployed = Logged(api_pb2.APP_STATE_DEPLOYED)
    deployed.write("old\n", ago=100)
    _, _, last = await deployed.read()
    deployed.write("between two requests\n")
    await deployed.clock.turn(60)
    assert (await deployed.read(last_entry_id=last))[0] == "between two requests\n"


async def test_the_log_of_a_container_is_over_when_it_has_ended() -> None:
    run = Logged()
    run.history.begun("ta-1", FunctionRecord("fu-1", "ap-1", "f"), 1.0)
    run.write("mine\n", task_id="ta-1")
    run.write("other\n", task_id="ta-2")
    assert await run.read(app_id="", task_id="ta-1") == ("mine\n", False, "1-0")
    run.history.finished("ta-1", 2.0, failed=False)
    text, over, _ = await run.read(app_id="", task_id="ta-1")
    assert (text, over) == ("mine\n", True)


async def test_who_follows_is_told_what_becomes_of_containers_which_are_no_lines_of_the_log() -> None:
    run = Logged()
    told = History(lambda task: run.app.log.append(container_state(task, run.clock.time())))
    told.begun("ta-1", FunctionRecord("fu-2", "ap-1", "f", base_function_id="fu-1"), 1.0)
    told.started("ta-1", 2.0)
    told.ready("ta-1", 3.0)
    run.write("a line\n")
    told.finished("ta-1", 4.0, failed=False)
    asked = api_pb2.AppGetLogsRequest(app_id="ap-1", function_id="fu-1")
    states = [item.task_state async for batch in run.handlers.AppGetLogs(asked, CLIENT) for item in batch.items]
    assert states == [api_pb2.TASK_STATE_WORKER_ASSIGNED, api_pb2.TASK_STATE_IDLE, api_pb2.TASK_STATE_COMPLETED]
    assert lines(run.app.log.batches) == ["a line\n"]


async def test_logs_of_nothing_and_of_what_never_was_are_refused() -> None:
    run = Logged()
    for request, complaint in (({"app_id": ""}, "Logs of what"), ({"app_id": "", "task_id": "ta-9"}, "ta-9")):
        with pytest.raises(GRPCError, match=complaint):
            await run.read(**request)


async def test_what_is_counted_is_what_is_fetched() -> None:
    run = Logged()
    for second in range(10):
        run.write(f"line {second}\n", ago=second)
    wanted = {"app_id": "ap-1", "search_text": "line"}
    fetch, count = api_pb2.AppFetchLogsRequest(**wanted), api_pb2.AppCountLogsRequest(**wanted, bucket_secs=2)
    for request in (fetch, count):
        request.since.FromSeconds(int(run.clock.time()) - 5)
        request.until.FromSeconds(int(run.clock.time()))
    fetched = await run.handlers.AppFetchLogs(fetch, CLIENT)
    counted = await run.handlers.AppCountLogs(count, CLIENT)
    assert [batch.items[0].data for batch in fetched.batches] == [f"line {second}\n" for second in range(1, 6)]
    assert sum(bucket.stdout_logs for bucket in counted.buckets) == 5
    fetch.limit = 2
    assert len((await run.handlers.AppFetchLogs(fetch, CLIENT)).batches) == 2


def test_a_log_knows_the_last_batch_from_before_a_moment() -> None:
    log = AppLog()
    for moment in (1.0, 2.0, 3.0):
        log.append(output("x\n", OUT, now=moment))
    assert [log.before(moment) for moment in (0.5, 2.5, 9.0)] == ["0-0", "2-0", "3-0"]
    assert AppLog().before(1.0) == "0-0"


async def test_what_a_container_has_written_is_read_before_its_input_counts_as_finished(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = ContainerHandlers(machine.calls, machine.scheduler, no_sandboxes(machine.clock), machine.clock)
    pool = machine.deploy()
    _, item = machine.call()
    await settle()
    (container,) = machine.started
    await taken(pool, container)
    slot = slot_of(pool, container)
    written: list[api_pb2.TaskLogsBatch] = []

    def read_output() -> None:
        written.append(container_output("x", "stdout", record=pool.record, slot=slot, now=1.0))

    monkeypatch.setattr(container, "read_output", read_output)
    request = api_pb2.FunctionPutOutputsRequest(outputs=[succeeded(item)])
    await handlers.FunctionPutOutputs(request, Caller(task_id=container.task_id))
    assert [line.items[0].input_id for line in written] == [item.input_id]
    assert not slot.attempts
