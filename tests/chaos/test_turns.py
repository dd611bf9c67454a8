"""Turns of sessions over HTTP while calls to AWS fail: each is whole, or its caller is told; none is kept twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from infra.aws import ATTEMPTS
from tests.chaos.conftest import EMULATORS, Faulty, emptied
from tests.chaos.faults import CARRIED_OUT, Call
from tests.chaos.service import Service, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.aws_kit import StateOfTest
    from tests.chaos.proxy import FaultProxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ANSWER = "t0 t1 "
HOWS = ["ProvisionedThroughputExceededException", "InternalServerError", "ServiceUnavailable", "reset", "lost", "cut"]
STEPS = {"look": ("GetItem", 0), "first question": ("TransactWriteItems", 0), "question": ("PutItem", 0)}
"""The calls of a turn before its first byte leaves, each the nth of its operation."""


@pytest.fixture(scope="module", params=EMULATORS)
def running(
    request: pytest.FixtureRequest, _states: Callable[[FaultProxy], StateOfTest],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Faulty, Service]]:  # fmt: skip
    proxy: FaultProxy = request.getfixturevalue(f"_{request.param}_proxy")
    with emptied(proxy, _states) as faulty, served(faulty, tmp_path_factory.mktemp("turns") / "log") as service:
        assert service.speak("first", "q").whole  # the engine has started
        yield faulty, service


@pytest.fixture
def faulty(running: tuple[Faulty, Service]) -> Iterator[Faulty]:
    running[0].proxy.clear()
    yield running[0]
    running[0].proxy.clear()


@pytest.fixture
def service(running: tuple[Faulty, Service], faulty: Faulty) -> Service:
    return running[1]


def of_sessions(call: Call) -> bool:
    """And not of what else the service keeps, when it likes."""
    return b'"session#' in call.body


def prepared(service: Service, name: str, step: str) -> list[tuple[str, bool]]:
    """A session in which there was a turn, unless its first one is to be made."""
    if step == "first question":
        return []
    assert service.speak(name, "before").whole
    return [("before", False), (ANSWER, False)]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("step", [*STEPS, "answer"])
def test_a_call_that_fails_for_a_moment_is_not_noticed(faulty: Faulty, service: Service, step: str, how: str) -> None:
    name = f"passing {step} {how}"
    before = prepared(service, name, step)
    operation, nth = STEPS.get(step, ("PutItem", 1))
    faulty.proxy.clear()
    fault = faulty.proxy.plan(how, operation, skip=nth, times=ATTEMPTS - 1, when=of_sessions)
    assert service.speak(name, "q").whole
    assert fault.struck == ATTEMPTS - 1
    assert service.said(name) == [*before, ("q", False), (ANSWER, False)]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("step", STEPS)
def test_a_question_that_cannot_be_kept_is_told_before_anything_else_is(
    faulty: Faulty, service: Service, step: str, how: str
) -> None:
    name = f"question {step} {how}"
    before = prepared(service, name, step)
    operation, nth = STEPS[step]
    faulty.proxy.clear()
    faulty.proxy.plan(how, operation, skip=nth, times=ATTEMPTS, when=of_sessions)
    told = service.speak(name, "q")
    if how in CARRIED_OUT and step != "look" and told.whole:
        before += [("q", False), (ANSWER, False)]  # what was told as a failure was known again as our own write
    else:
        assert (told.status, told.json()["error"]["code"]) == (503, "sessions_unavailable")
        assert told.headers["retry-after"]
    assert service.speak(name, "again").whole, "what may have been kept all the same was taken back"
    assert service.said(name) == [*before, ("again", False), (ANSWER, False)]


@pytest.mark.parametrize("how", HOWS)
def test_an_answer_that_cannot_be_kept_is_told_at_its_end(faulty: Faulty, service: Service, how: str) -> None:
    name = f"answer {how}"
    before = prepared(service, name, "answer")
    faulty.proxy.clear()
    fault = faulty.proxy.plan(how, "PutItem", skip=1, times=ATTEMPTS, when=of_sessions)
    told = service.speak(name, "q")
    assert fault.struck == ATTEMPTS
    assert told.status == 200
    kept = [("q", False), (ANSWER, False)] if how in CARRIED_OUT else [("q", False)]
    assert service.said(name) == [*before, *kept]
    if not told.whole:
        assert "sessions_unavailable" in told.text
        assert "event: done" not in told.text
    else:
        assert how in CARRIED_OUT


def test_a_turn_costs_three_calls_and_a_failing_one_no_more_than_its_budget(faulty: Faulty, service: Service) -> None:
    def called() -> list[str]:
        return [call.operation for call in faulty.proxy.calls if of_sessions(call)]

    service.speak("calls", "one")
    faulty.proxy.clear()
    for prompt in ("two", "three"):
        service.speak("calls", prompt)
    assert called() == ["GetItem", "PutItem", "PutItem"] * 2
    faulty.proxy.clear()
    faulty.proxy.plan("ServiceUnavailable", times=None)
    assert service.speak("calls", "four").status == 503
    assert called() == ["GetItem"] * ATTEMPTS
