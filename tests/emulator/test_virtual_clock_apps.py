"""A whole app in virtual time, from the client to the code in containers that are threads."""

from __future__ import annotations

import http.client
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import modal
import pytest
from modal_proto import api_pb2

from emulator.emulator import Emulator
from emulator.virtual_clock import NotQuietError, VirtualClock
from tests.emulator import clock_app
from tests.emulator.heart_kit import modal as modal_cli
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHIN = 30.0
"""Real seconds for what takes milliseconds."""


class Deployed:
    """`clock_app` in an emulator with a virtual clock."""

    def __init__(self, emulator: Emulator, clock: VirtualClock, outside: VirtualClock) -> None:
        self.emulator = emulator
        self.clock = clock
        self.outside = outside

    def advance(self, by: str | float) -> None:
        self.clock.advance(by, within=WITHIN)

    def containers(self, function: str) -> int:
        return len(self.emulator.containers(function=function))

    def done(self, call: modal.FunctionCall[Any]) -> bool:
        return not self.emulator.core.calls.get(call.object_id).unfinished  # type: ignore[union-attr]

    def result(self, call: modal.FunctionCall[Any]) -> Any:
        """What a call has come to, without waiting for time to pass."""
        assert self.done(call)
        return call.get()


@pytest.fixture(scope="module")
def deployed() -> Iterator[Deployed]:
    clock = VirtualClock(start=datetime(2026, 3, 1, tzinfo=UTC))
    with Emulator(containers="thread", clock=clock) as emulator:
        client = client_of({**os.environ, **emulator.environment})
        clock_app.app.deploy(client=client)
        yield Deployed(emulator, clock, clock)
        client.close()


@pytest.mark.slow
def test_a_day_of_an_hourly_cron_is_24_runs_whose_code_sees_the_hour(deployed: Deployed) -> None:
    deployed.clock.advance_to(deployed.clock.now().replace(minute=30, second=0, microsecond=0))
    clock_app.ran.clear()
    deployed.advance("1d")
    assert len(clock_app.ran) == 24
    assert all(moment % 3600 == 0 for moment in clock_app.ran)
    assert clock_app.ran == sorted(set(clock_app.ran))
    assert deployed.containers("hourly") == 0


def test_a_container_is_there_for_five_minutes_after_its_last_call(deployed: Deployed) -> None:
    assert clock_app.add.remote(1, 2) == 3
    deployed.advance("4m59s")
    assert deployed.containers("add") == 1
    assert clock_app.add.remote(3, 4) == 7
    deployed.advance("4m59s")
    assert deployed.containers("add") == 1
    deployed.advance("1s")
    assert deployed.containers("add") == 0


@pytest.mark.parametrize("function", [clock_app.sleeps, clock_app.sleeps_async], ids=["sync", "async"])
def test_an_input_is_timed_out_after_ten_minutes_and_not_before(deployed: Deployed, function: Any) -> None:
    longer, shorter = function.spawn(3600), function.spawn(599)
    deployed.advance("9m58s")
    assert not deployed.done(shorter)
    deployed.advance("1s")
    assert not deployed.done(longer)
    assert deployed.result(shorter) == 599
    deployed.advance("1s")
    with pytest.raises(modal.exception.FunctionTimeoutError, match="timeout of 600s"):
        deployed.result(longer)


@pytest.mark.parametrize("how", ["event", "queue", "own loop", "pool", "call", "generator", "helper"])
def test_code_waits_in_virtual_time_however_it_waits(deployed: Deployed, how: str) -> None:
    call = clock_app.waits.spawn(how)
    deployed.advance("59m59s")
    assert not deployed.done(call)
    deployed.advance("1s")
    assert deployed.result(call) == "3600.00"


@pytest.mark.parametrize("how", ["thread", "timeout", "call", "many"])
def test_asynchronous_code_too(deployed: Deployed, how: str) -> None:
    call = clock_app.waits_async.spawn(how)
    deployed.advance("59m59s")
    assert not deployed.done(call)
    deployed.advance("1s")
    assert deployed.result(call) == "3600.00"


def test_inputs_of_one_container_end_each_at_its_own_time(deployed: Deployed) -> None:
    begun = deployed.clock.time()
    calls = [clock_app.at_once.spawn(seconds) for seconds in (30, 10, 20)]
    deployed.advance("25s")
    assert [deployed.done(call) for call in calls] == [False, True, True]
    deployed.advance("5s")
    assert [deployed.result(call) - begun for call in calls] == [30, 10, 20]
    assert deployed.containers("at_once") == 1


def test_time_stands_while_code_is_busy_and_the_error_shows_where(deployed: Deployed) -> None:
    before = deployed.clock.now()
    with clock_app.gate:
        call = clock_app.computes.spawn()
        with pytest.raises(NotQuietError) as raised:
            deployed.clock.advance("1m", within=1.0)
        assert deployed.clock.now() == before
        assert "of clock-app/computes works on in-" in str(raised.value)
        assert "with gate:" in str(raised.value), "the line at which its code is"
    deployed.advance("1m")
    assert datetime.fromisoformat(deployed.result(call)).date() == datetime.now(UTC).date(), "which is not virtual"


def test_retries_come_after_their_backoff(deployed: Deployed) -> None:
    clock_app.tries.clear()
    call = clock_app.fails.spawn()
    deployed.advance("1h")
    with pytest.raises(ValueError, match="always"):
        deployed.result(call)
    assert [moment - clock_app.tries[0] for moment in clock_app.tries] == [0, 10, 30, 70]


def test_a_boot_that_takes_too_long_is_told_to_its_caller(deployed: Deployed) -> None:
    call = clock_app.Boots().use.spawn()
    deployed.advance("59s")
    assert not deployed.done(call)
    deployed.advance("1s")
    with pytest.raises(modal.exception.RemoteError, match="startup timeout of 60s"):
        deployed.result(call)


def test_a_web_request_is_redirected_after_150_seconds_and_answered_at_its_time(deployed: Deployed) -> None:
    url = urlsplit(deployed.emulator.web_url("clock-app", "answers"))

    def get(target: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=WITHIN)
        try:
            connection.request("GET", target)
            response = connection.getresponse()
            return response.status, response.headers.get("Location", ""), response.read()
        finally:
            connection.close()

    def under_way() -> bool:
        """Whether a request is with its container."""
        slots = deployed.emulator.core.scheduler.slots()
        return any(slot.active for pool, slot in slots if pool.record.tag == "answers")

    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(get, "/?seconds=200")
        deployed.emulator.wait(under_way, within=WITHIN)
        deployed.advance("149s")
        assert not answer.done()
        deployed.advance("1s")
        status, location, _ = answer.result(WITHIN)
        assert status == 303
        deployed.advance("50s")
        assert get(location) == (200, "", b"200.0")


@pytest.mark.slow
def test_a_container_that_is_a_process_lives_in_real_time_and_is_waited_for(tmp_path: Path) -> None:
    source = tmp_path / "real_time.py"
    source.write_text(
        "import time, modal\n"
        "app = modal.App('real-time')\n"
        "@app.function(scaledown_window=300, timeout=600)\n"
        "def takes(seconds):\n"
        "    time.sleep(seconds)\n"
    )
    clock = VirtualClock()
    with Emulator(clock=clock) as emulator:
        deployed = modal_cli(emulator, "deploy", str(source), cwd=tmp_path)
        assert deployed.returncode == 0, deployed.stderr
        client = client_of({**os.environ, **emulator.environment})
        takes = modal.Function.from_name("real-time", "takes", client=client)
        short = takes.spawn(0.2)
        clock.advance("299s", within=WITHIN)
        assert not emulator.core.calls.get(short.object_id).unfinished  # type: ignore[union-attr]
        assert len(emulator.containers()) == 1
        clock.advance("1s", within=WITHIN)
        assert emulator.containers() == []
        long = takes.spawn(3600)
        emulator.wait(lambda: any(container.active for container in emulator.containers()), within=WITHIN)
        with pytest.raises(NotQuietError, match=r"real-time/takes works on in-"):
            clock.advance("10m", within=3.0)
        clock.advance("10m", regardless=True)
        assert not emulator.core.calls.get(long.object_id).unfinished  # type: ignore[union-attr]
        client.close()


def test_only_the_code_of_containers_is_in_virtual_time(deployed: Deployed) -> None:
    deployed.advance("1d")
    before = time.monotonic()
    assert abs(deployed.clock.time() - time.time()) > 3600
    threading.Event().wait(0.01)
    time.sleep(0.01)
    assert 0.02 <= time.monotonic() - before < WITHIN


def test_the_clock_is_not_turned_from_where_it_waits(deployed: Deployed) -> None:
    async def turn() -> None:
        deployed.clock.advance("1s")

    with pytest.raises(RuntimeError, match="on the loop that it waits for"):
        deployed.emulator._run(turn())
    with pytest.raises(RuntimeError, match="one emulator at a time"), Emulator(clock=deployed.clock):
        pass


def test_a_client_that_lives_in_real_time_is_not_lost_in_a_virtual_day_but_in_a_real_minute() -> None:
    outside = VirtualClock()
    clock = VirtualClock(outside=outside)
    with Emulator(clock=clock, containers="thread") as emulator:
        client = client_of({**os.environ, **emulator.environment})
        app = emulator._run(_create_app(emulator))
        clock.advance("1d", within=WITHIN)
        assert emulator.core.state.apps[app].state == api_pb2.APP_STATE_EPHEMERAL
        outside.advance("59s")
        assert emulator.core.state.apps[app].state == api_pb2.APP_STATE_EPHEMERAL
        outside.advance("16s")
        emulator.wait(lambda: emulator.core.state.apps[app].state == api_pb2.APP_STATE_STOPPED, within=WITHIN)
        client.close()


async def _create_app(emulator: Emulator) -> str:
    from emulator.protocol.dispatch import Caller

    request = api_pb2.AppCreateRequest(description="left", app_state=api_pb2.APP_STATE_EPHEMERAL)
    created = await emulator.core._apps.AppCreate(request, Caller())
    return created.app_id
