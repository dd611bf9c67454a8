"""Engines on this machine come and go, and what each has counted stays."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from functions import engine_metrics
from functions.boot import BootPhases
from functions.engine_lives import EngineLives
from functions.engines.base import Address
from functions.engines.readings import read
from functions.engines.scripted_server import Options, ScriptedServer
from infra.metric_families import family
from infra.metric_snapshots import UNIT, Shape, Snapshot
from tests.functions.test_engine_metrics import number

if TYPE_CHECKING:
    import pytest

PHASES = BootPhases(seconds={"ready": 2.0})
NOWHERE = Address(host="127.0.0.1", port=9)


def has(snapshot: Snapshot, name: str) -> bool:
    return Shape.of(family(name)) in snapshot


async def test_each_process_counts_as_a_container_and_what_it_counted_stays_when_it_is_gone() -> None:
    lives = EngineLives("m", api_key="key", monotonic=lambda: 1.0)
    assert lives.snapshot() == {}
    for life in (1, 2):
        async with ScriptedServer(Options(api_key="key")) as engine:
            engine._tokens = 5
            address = Address(host="127.0.0.1", port=engine.port)
            lives.ready(PHASES, address)
            await lives.look()
            told = lives.snapshot()
            assert number(told, "engine_generation_tokens_total", "m") == 5 * life
            assert number(told, "engine_containers", "m") == 1
            lives.over(NOWHERE, failed=False)
            assert number(lives.snapshot(), "engine_containers", "m") == 1, "it was another that is gone"
            lives.over(address, failed=False)
        told = lives.snapshot()
        assert number(told, "engine_generation_tokens_total", "m") == 5 * life
        assert number(told, "engine_container_starts_total", "m") == life
        assert not has(told, "engine_containers") and not has(told, "engine_requests_running")
    await lives.look()
    lives.over(NOWHERE, failed=True)
    assert number(lives.snapshot(), "engine_boots_failed_total", "m") == 1
    assert lives.snapshot()[Shape.of(family("engine_boot_seconds"))][("m", "ready")][0] == 4 * UNIT


async def test_what_an_engine_told_before_it_died_stays_though_nobody_asked_for_the_sum_between() -> None:
    lives = EngineLives("m", api_key="key", monotonic=lambda: 1.0)
    async with ScriptedServer(Options(api_key="key")) as engine:
        engine._tokens = 5
        address = Address(host="127.0.0.1", port=engine.port)
        lives.ready(PHASES, address)
        await lives.look()
    await lives.look()
    lives.over(address, failed=False)
    assert number(lives.snapshot(), "engine_generation_tokens_total", "m") == 5


async def test_what_engines_tell_is_read_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = list[threading.Thread]()

    def noted(text: str, *, model: str) -> Snapshot:
        threads.append(threading.current_thread())
        return read(text, model=model)

    monkeypatch.setattr(engine_metrics, "read", noted)
    lives = EngineLives("m", api_key="key")
    async with ScriptedServer(Options(api_key="key")) as engine:
        lives.ready(PHASES, Address(host="127.0.0.1", port=engine.port))
        await lives.look()
        assert has(lives.snapshot(), "engine_requests_running")
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_an_engine_that_served_and_then_could_not_be_kept_has_counted_what_it_counted() -> None:
    lives = EngineLives("m", api_key="key", monotonic=lambda: 1.0)
    lives.ready(PHASES, NOWHERE)
    lives.over(NOWHERE, failed=True)
    lives.ready(PHASES, NOWHERE)
    told = lives.snapshot()
    assert number(told, "engine_containers", "m") == 1
    assert number(told, "engine_container_starts_total", "m") == 2
    assert number(told, "engine_boots_failed_total", "m") == 0, "it could start"
