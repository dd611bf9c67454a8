"""An engine's container: how it ends where its engine could not start, and where it was never known what it is for."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from functions import engine_container
from functions.boot import Boot, BootPhases
from functions.compile_cache import CompileCache
from functions.engine_container import EngineContainer
from functions.engines.base import Address
from functions.servers import EngineServer, SnapshotServer
from infra.settings import Deploy, Health, Model, Models, Settings, State
from tests.ports import free_port
from tests.service.deployment import until

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = Model(id="gone", name="gone", path="/nowhere", engine="llamacpp", device="cpu")


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What this process would have been sent by itself."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def container(model: Model = NOWHERE) -> EngineContainer:
    settings = Settings(models=Models(available_models=(model,)), deploy=Deploy(target="modal"))
    return EngineContainer(settings, model, address=Address(host="127.0.0.1", port=free_port()))


def leaving() -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == "engine-failed")


def test_a_container_whose_engine_could_not_start_leaves_so_that_another_may_try(
    signals: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_container, "FAILURE_SECONDS", 0.2)
    failed = container()
    try:
        failed.start(Boot())
        assert signals == [], "its callers are told first"
        leaving().join(20)
        assert signals == [(os.getpid(), signal.SIGTERM)]
    finally:
        failed.stop()


def test_one_that_is_told_to_end_sooner_does_not_tell_itself_later(signals: list[tuple[int, int]]) -> None:
    failed = container()
    failed.start(Boot())
    thread = leaving()
    failed.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert signals == []


def test_whatever_goes_wrong_at_its_start_its_callers_are_told_that_something_did(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_container, "make_engine", mock.Mock(side_effect=RuntimeError("of ours")))
    failed = container()
    failed.start(Boot())
    try:
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(failed.address.url, timeout=20)
        assert told.value.code == 503
        body = json.load(told.value)
        assert body["error"]["message"] == "the service could not run its engine; its log says more"
    finally:
        failed.stop()
    container().prepare()  # and no snapshot is kept from being taken without it


def test_a_container_leaves_once_its_engine_was_given_up_though_its_process_is_still_there(
    signals: list[tuple[int, int]],
) -> None:
    gone = threading.Event()
    stuck = mock.Mock(healthy=lambda _: False, wait=gone.wait)
    brisk = Health(probe_seconds=0.01, probe_timeout=1, failures=1)
    serving = container()
    serving.settings = serving.settings.model_copy(update={"health": brisk, "state": State(kind="memory")})
    serving.engine = stuck
    serving._serve(BootPhases())
    until(lambda: bool(signals), within=20)
    stuck.stop.assert_called_once_with(at_once=True)
    gone.set()
    serving.stop()
    assert signals == [(os.getpid(), signal.SIGTERM)], "it is told once"


def test_its_end_does_not_wait_for_an_archive_longer_than_there_is_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine_container, "KEEP_SECONDS", 0.1)
    ended = container()
    given_up = threading.Event()

    class Slow(CompileCache):
        def keep(self) -> bool:
            return not given_up.wait(60)

        def give_up(self) -> None:
            given_up.set()

    ended._cache = Slow(archive=tmp_path / "a.tar", folder=tmp_path / "compiled", commit=lambda: None)
    began = time.monotonic()
    ended.stop()
    assert given_up.is_set()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("server", [EngineServer, SnapshotServer])
def test_the_end_of_a_container_that_never_knew_its_model_is_no_further_error(
    server: type[EngineServer | SnapshotServer],
) -> None:
    server().stop()
