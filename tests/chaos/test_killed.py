"""A web container is killed at each step of a turn: what its caller was told of is there when another takes its place,
and the session can be gone on with."""

from __future__ import annotations

import contextlib
import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.service import served, turn
from web.session_table import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.aws_kit import StateOfTest
    from tests.chaos.conftest import Faulty
    from tests.chaos.faults import Call
    from tests.chaos.proxy import FaultProxy
    from tests.chaos.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

Others = "Callable[[Faulty], Service]"
BEFORE = [("before", False), ("t0 t1 ", False)]
UNANSWERED = [("q", False), ("", True)]
ANSWERED = [("q", False), ("t0 t1 ", False)]


def is_question(call: Call) -> bool:
    return b'"session#' in call.body and "turn" in call.json()["Item"]


def is_answer(call: Call) -> bool:
    return b'"session#' in call.body and "turn" not in call.json()["Item"]


@pytest.fixture(scope="module")
def others(
    _states: Callable[[FaultProxy], StateOfTest], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Faulty], Service]]:
    """A container that takes a dead one's place, when the lease of its turn is over."""
    with contextlib.ExitStack() as stack:
        running: dict[str, Service] = {}

        def other(faulty: Faulty) -> Service:
            if faulty.proxy.url not in running:
                log = tmp_path_factory.mktemp("other") / "log"
                running[faulty.proxy.url] = stack.enter_context(served(faulty, log, ahead=LEASE_SECONDS + 1))
            return running[faulty.proxy.url]

        yield other


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Faulty:
    """By its name."""
    faulty: Faulty = request.getfixturevalue(f"on_{request.param}")
    return faulty


def on(emulator: str) -> Any:
    return pytest.mark.parametrize("emulator", [emulator], indirect=True)


@pytest.mark.parametrize(
    ("emulator", "which", "after", "kept"),
    [
        pytest.param("moto", is_question, False, [], id="before the question is written"),
        pytest.param("dynalite", is_question, True, UNANSWERED, id="before it is told that the question is written"),
        pytest.param("dynalite", is_answer, False, UNANSWERED, id="before the answer is written"),
        pytest.param("moto", is_answer, True, ANSWERED, id="before it is told that the answer is written"),
    ],
    indirect=["emulator"],
)
def test_a_container_that_is_killed_at_a_write_leaves_the_turn_whole_or_interrupted(
    emulator: Faulty, others: Others, tmp_path: Path, which: Any, after: bool, kept: list[tuple[str, bool]]
) -> None:
    with served(emulator, tmp_path / "log") as service, ThreadPoolExecutor(1) as caller:
        assert service.speak("s", "before").whole
        held = emulator.proxy.hold("PutItem", when=which, after=after)
        asking = caller.submit(service.speak, "s", "q")
        held.wait()
        service.kill()
        held.drop()
        told = asking.exception(timeout=60)
    assert isinstance(told, (http.client.HTTPException, OSError)), "its caller was not told that it is done"
    goes_on(others(emulator), [*BEFORE, *kept])


@on("moto")
def test_a_container_that_is_killed_in_a_stream_has_kept_the_question_of_what_was_told(
    emulator: Faulty, others: Others, tmp_path: Path
) -> None:
    with served(emulator, tmp_path / "log") as service:
        assert service.speak("s", "before").whole
        with service.begin("/chat/completions", turn("s", "q", tokens=10_000, gap=0.05)) as answer:
            assert answer.readline() == b"data: t0 \n"
            service.kill()
            with pytest.raises(http.client.IncompleteRead):
                answer.read()
    goes_on(others(emulator), [*BEFORE, *UNANSWERED])


@on("dynalite")
def test_a_container_that_is_killed_after_a_turn_has_kept_it(emulator: Faulty, others: Others, tmp_path: Path) -> None:
    with served(emulator, tmp_path / "log") as service:
        assert service.speak("s", "before").whole
        assert service.speak("s", "q").whole
        service.kill()
    goes_on(others(emulator), [*BEFORE, *ANSWERED])


def goes_on(other: Service, said: list[tuple[str, bool]]) -> None:
    """It is there so, and the next turn comes after it."""
    assert other.said("s") == said
    assert other.speak("s", "next").whole
    assert other.said("s") == [*said, ("next", False), ("t0 t1 ", False)]
