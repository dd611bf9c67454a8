"""The control of engines that are Modal Servers, beside stand-ins for Modal's client."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import modal
import pytest

from functions.control import RELEASE_SECONDS, ServerControl, state_of
from functions.names import server_name
from infra.settings import Model, Models, Scaling, Settings
from tests.web.conftest import until
from tests.web.doubles import HandClock
from web.errors import EngineUnreachable, NotSupported

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIGURED = {"min_containers": 1, "scaledown_window": 40}
SETTINGS = Settings(models=Models(available_models=(Model(id="m", name="m", scaling=Scaling(scaledown_window=40)),)))


class HandServer:
    """As much of `modal.Server`, and of the Function behind it, as the control uses."""

    def __init__(self) -> None:
        self.changes: list[dict[str, int]] = []
        self.there = self.serving = self.running = self.backlog = 0
        self.error: Exception | None = None
        self.autoscaler = SimpleNamespace(update=SimpleNamespace(aio=self._update))
        self.get_current_stats = SimpleNamespace(aio=self._stats)
        self._experimental_list_containers = SimpleNamespace(aio=self._list)

    async def _update(self, **changes: int) -> None:
        if self.error is not None:
            raise self.error
        self.changes.append(changes)

    async def _stats(self) -> Any:
        return SimpleNamespace(
            num_total_runners=self.there, num_running_inputs=self.running, backlog=self.backlog, input_headroom=0
        )

    async def _list(self) -> list[None]:
        if self.error is not None:
            raise self.error
        return [None] * self.serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> HandServer:
    made = HandServer()
    found = {("llm", "engine-m"): made}
    monkeypatch.setattr(modal.Function, "from_name", lambda app, name: found[(app, name)])
    return made


@pytest.fixture
async def control(server: HandServer, clock: HandClock) -> AsyncIterator[ServerControl]:
    made = ServerControl(SETTINGS, {"m": server}, clock=clock)  # type: ignore[dict-item]
    yield made
    server.error = None
    await made.close()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.mark.parametrize(
    ("there", "serving", "running", "waiting", "state", "phase"),
    [
        (0, 0, 0, 0, "cold", None),
        (0, 0, 0, 1, "booting", "container"),
        (1, 0, 0, 1, "booting", "engine"),
        (1, 1, 3, 0, "ready", None),
        (2, 1, 3, 1, "ready", None),
        (0, 1, 0, 0, "ready", None),  # the two counts are not of the same moment
        (1, None, 0, 0, "unknown", None),
        (0, None, 0, 0, "cold", None),
    ],
)
def test_what_modal_s_counts_mean(
    there: int, serving: int | None, running: int, waiting: int, state: str, phase: str | None
) -> None:
    told = state_of(there=there, serving=serving, running=running, waiting=waiting)
    assert (told.state, told.phase) == (state, phase)


async def test_a_state_is_made_of_the_stats_and_the_list_of_those_that_serve(
    server: HandServer, control: ServerControl
) -> None:
    assert (await control.state("m")).state == "cold"
    server.there = server.serving = 1
    server.running = 4
    told = await control.state("m")
    assert (told.state, told.containers, told.requests) == ("ready", 1, 4)
    server.error = modal.exception.PermissionDeniedError("not for containers")
    assert (await control.state("m")).state == "unknown"


async def test_loading_keeps_a_container_and_unloading_lets_idle_ones_go_at_once(
    server: HandServer, control: ServerControl, clock: HandClock
) -> None:
    await control.load("m")
    assert server.changes == [CONFIGURED]
    server.there = server.serving = 1
    await control.unload("m", force=False)
    assert server.changes[1:] == [{"min_containers": 0, "scaledown_window": 2}]
    await until(clock.pending)
    clock.advance(1)
    await until(clock.pending)
    assert len(server.changes) == 2
    server.there = server.serving = 0
    clock.advance(1)
    await until(lambda: len(server.changes) == 3)
    assert server.changes[2] == {"scaledown_window": 40}


async def test_a_container_that_stays_busy_does_not_keep_the_short_window_for_ever(
    server: HandServer, control: ServerControl, clock: HandClock
) -> None:
    server.there = server.serving = 1
    await control.unload("m", force=False)
    await until(clock.pending)
    clock.advance(RELEASE_SECONDS)
    await until(lambda: {"scaledown_window": 40} in server.changes)


async def test_loading_again_and_the_end_of_the_application_give_the_window_back(
    server: HandServer, control: ServerControl
) -> None:
    server.there = server.serving = 1
    await control.unload("m", force=False)
    await control.load("m")
    assert server.changes[-1] == CONFIGURED
    await control.unload("m", force=False)
    await control.close()
    assert server.changes[-1] == {"scaledown_window": 40}


async def test_what_modal_cannot_or_will_not_do_is_said(server: HandServer, control: ServerControl) -> None:
    with pytest.raises(NotSupported, match="does not stop a busy container"):
        await control.unload("m", force=True)
    server.error = modal.exception.PermissionDeniedError("not for containers")
    with pytest.raises(EngineUnreachable, match="did not take the change"):
        await control.load("m")


def test_the_name_of_a_server_holds_no_dot() -> None:
    assert server_name("qwen2.5-0.5b") == "engine-qwen2_5-0_5b"
