"""Random sequences of what is done with sessions, and of what fails meanwhile, against a model: see session_machine.

They are the same ones each time, and few; CHAOS_EXAMPLES=200 runs so many, other ones each time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from infra.aws import StateUnavailable
from infra.table import Bucket, Table
from tests.chaos.session_machine import Sessions
from web.session_store import SessionsInMemory
from web.session_table import SessionsInTable

if TYPE_CHECKING:
    from infra.aws import Clients
    from tests.chaos.conftest import Faulty
    from tests.chaos.session_machine import Weather
    from tests.web.doubles import HandClock
    from web.sessions import SessionStore

WANTED = os.environ.get("CHAOS_EXAMPLES")
RUNS = settings(
    derandomize=WANTED is None, database=None, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
OF_S3 = {"ProvisionedThroughputExceededException": "SlowDown", "InternalServerError": "InternalError"}


class InMemory:
    """Both processes are one: what is kept there no other process sees."""

    fails = False

    def __init__(self) -> None:
        self._kept: SessionStore | None = None

    def store(self, clock: HandClock) -> SessionStore:
        self._kept = self._kept or SessionsInMemory(clock=clock)
        return self._kept

    def weather(self, weather: Weather | None) -> None:
        """Always fine."""

    def kill(self, store: SessionStore) -> None:
        raise NotImplementedError

    def clear(self) -> None:
        self._kept = None


class Mortal:
    """Clients of a process that may be killed."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self.dead = False

    async def call(self, service: Any, operation: str, /, **arguments: Any) -> dict[str, Any]:
        if self.dead:
            raise StateUnavailable("its process is dead")
        return await self._clients.call(service, operation, **arguments)


class InAws:
    fails = True

    def __init__(self, faulty: Faulty) -> None:
        self._faulty = faulty
        self._processes: dict[int, Mortal] = {}
        self.struck = 0
        self._faults: list[Any] = []

    def store(self, clock: HandClock) -> SessionStore:
        clients: Any = Mortal(self._faulty.state.clients)
        name = self._faulty.state.name
        store = SessionsInTable(Table(clients, name), Bucket(clients, name), clock=clock)
        self._processes[id(store)] = clients
        return store

    def weather(self, weather: Weather | None) -> None:
        self.struck += sum(fault.struck for fault in self._faults)
        self._faulty.proxy.clear()
        self._faults = []
        if weather is not None:
            how, more = weather.how, {"skip": weather.skip, "times": weather.times}
            plan = self._faulty.proxy.plan
            self._faults = [plan(how, **more), plan(OF_S3.get(how, how), service="s3", **more)]

    def kill(self, store: SessionStore) -> None:
        self._processes[id(store)].dead = True

    def clear(self) -> None:
        self._faulty.state.empty()


def run(world: Any, *, examples: int, steps: int) -> None:
    """Not made shorter when it fails: that takes minutes where each step is a dozen calls."""
    machine = type("Machine", (Sessions,), {"world": world})
    chosen = settings(RUNS, max_examples=int(WANTED or examples), stateful_step_count=steps, phases=[Phase.generate])
    run_state_machine_as_test(machine, settings=chosen)


def test_sessions_in_memory_are_as_the_model_says() -> None:
    run(InMemory(), examples=10, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(3000 if WANTED else 300)
def test_sessions_in_aws_are_as_the_model_says_whatever_fails(faulty: Faulty) -> None:
    world = InAws(faulty)
    run(world, examples=8, steps=30)
    assert world.struck >= 8, "much has failed"
