"""The phases of a boot are timed where they happen, and what cannot be told is absent."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from functions.boot import PHASES, Boot, container_seconds
from functions.engines.base import Address
from functions.engines.scripted import ScriptedEngine
from functions.engines.sglang import LANDMARKS
from tests.ports import free_port
from tests.web.doubles import HandClock

if TYPE_CHECKING:
    from functions.boot import Phase

SGLANG_LOG: tuple[tuple[float, str], ...] = (
    (9.0, "[2026-11-23 07:48:38] server_args={'model_path': '/m', 'load_format': 'auto'}"),
    (31.0, "[2026-11-23 07:49:10 TP0] Load weight begin. avail mem=78.62 GB"),
    (31.1, "[2026-11-23 07:49:10 TP1] Load weight begin. avail mem=78.60 GB"),
    (35.0, "[2026-11-23 07:49:14 TP1] Load weight end. elapsed=3.90 s, type=Qwen2ForCausalLM, avail mem=77.63 GB"),
    (35.2, "[2026-11-23 07:49:14 TP0] Load weight end. elapsed=4.10 s, type=Qwen2ForCausalLM, avail mem=77.63 GB"),
    (36.0, "[2026-11-23 07:49:15 TP0] Load weight begin. avail mem=60.00 GB"),
    (47.0, "[2026-11-23 07:49:26] The server is fired up and ready to roll!"),
)
"""When SGLang 0.5.23 writes what, on two GPUs with a draft model."""


def boot(clock: HandClock, *, container: float | None = None) -> Boot:
    return Boot(container=container, monotonic=clock.monotonic)


def test_each_phase_lasts_until_the_next_begins_and_the_whole_is_told_last() -> None:
    clock = HandClock()
    told = boot(clock, container=1.5)
    steps: tuple[tuple[Phase, float], ...] = (("download", 60), ("import", 10), ("weights", 4), ("warm_up", 20))
    for phase, seconds in steps:
        told.begins(phase)
        clock.advance(seconds)
    expected = {"container": 1.5, "download": 60, "import": 10, "weights": 4, "warm_up": 20, "ready": 95.5}
    assert told.is_ready().seconds == expected
    assert list(expected) == [phase for phase in PHASES if phase in expected]
    assert str(told.phases()).startswith("container 1.50 s, download 60.00 s, import 10.00 s")


def test_what_is_not_known_is_absent() -> None:
    clock = HandClock()
    told = boot(clock)
    told.begins("import")
    clock.advance(3)
    assert told.phases().seconds == {}
    assert told.is_ready().seconds == {"import": 3, "ready": 3}


def test_a_boot_that_is_over_hears_nothing_more() -> None:
    clock = HandClock()
    told = boot(clock)
    told.begins("import")
    clock.advance(3)
    phases = told.is_ready()
    clock.advance(50)
    told.begins("warm_up")
    told.reads("Load weight begin", LANDMARKS)
    assert told.is_ready() == phases


def test_sglang_tells_its_phases_in_its_log_and_of_several_processes_the_first_counts() -> None:
    clock, passed = HandClock(), 0.0
    told = boot(clock)
    told.begins("import")
    for at, line in SGLANG_LOG:
        clock.advance(at - passed)
        passed = at
        told.reads(line, LANDMARKS)
    seconds = told.is_ready().seconds
    assert seconds == {"import": 31, "weights": 4, "warm_up": 12, "ready": 47}


def test_the_container_of_a_thread_has_no_process_of_its_own_to_be_timed() -> None:
    found: list[float | None] = []
    thread = threading.Thread(target=lambda: found.append(container_seconds()))
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.slow
def test_the_scripted_engine_has_every_phase_of_a_real_one() -> None:
    told = Boot()
    address = Address(host="127.0.0.1", port=free_port())
    engine = ScriptedEngine(address=address, arguments=["--boot-seconds", "0.5"], boot=told)
    try:
        engine.start()
    finally:
        engine.stop()
    seconds = told.is_ready().seconds
    assert list(seconds) == ["import", "weights", "warm_up", "ready"]
    assert seconds["weights"] >= 0.4
    assert seconds["ready"] >= sum(seconds[phase] for phase in ("import", "weights", "warm_up")) - 0.001
