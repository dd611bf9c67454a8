"""A model's state is told without waking its engine: what the platform counts, and what requests see."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import chat, until
from tests.web.doubles import HandClock
from tests.web.model_kit import DIRECTORY, NOBODY, READY, HandControl, get, settings
from web.sightings import Seen
from web.states import COLD, UNKNOWN, ModelState, combine

if TYPE_CHECKING:
    from tests.web.conftest import Serve
    from tests.web.doubles import HandEngine


class ExactControl(HandControl):
    """Knows every state, and needs not be asked."""

    def known(self, model: str) -> ModelState:
        return self.states[model]


@pytest.fixture
def control() -> HandControl:
    return HandControl()


@pytest.fixture
def url(serve: Serve, control: HandControl, clock: HandClock) -> str:
    """Of an application with two models whose engines answer nowhere."""
    address: str = serve(NOBODY, settings=settings(), engines=DIRECTORY, control=control, clock=clock).url
    return address


async def test_a_state_is_what_the_platform_tells(url: str, http: Any, control: HandControl) -> None:
    control.states |= {
        "small": ModelState(state="booting", phase="weights", seconds=12.34, containers=1), "large": READY,
    }  # fmt: skip
    small, large = [(await get(http, f"{url}/v1/models/{model}"))[1] for model in ("small", "large")]
    assert (small["state"], small["phase"], small["seconds"]) == ("booting", "weights", 12.3)
    assert (large["state"], large["phase"], large["seconds"]) == ("ready", None, None)
    assert (large["containers"], large["requests"]) == (1, 2)


async def test_the_platform_is_asked_at_most_once_a_second_however_many_look(
    url: str, http: Any, control: HandControl, clock: HandClock
) -> None:
    await asyncio.gather(*(get(http, url + "/models/small") for _ in range(20)))
    assert control.asked == 1
    clock.advance(1.1)
    await get(http, url + "/models/small")
    assert control.asked == 2


async def test_a_platform_that_fails_makes_a_state_unknown_and_no_error(
    url: str, http: Any, control: HandControl
) -> None:
    control.raises = ConnectionError("no platform")
    assert (await get(http, url + "/models/small"))[1]["state"] == "unknown"
    status, readiness = await get(http, url + "/readiness")
    assert (status, readiness["models_available"]) == (200, 2)


async def test_a_slow_platform_does_not_hold_up_who_asks(
    url: str, http: Any, control: HandControl, clock: HandClock
) -> None:
    control.states["small"] = READY
    assert (await get(http, url + "/models/small"))[1]["state"] == "ready"
    clock.advance(2)
    control.holds = True
    asked = asyncio.create_task(get(http, url + "/models/small"))
    await until(lambda: 1.0 in clock.pending())
    clock.advance(1.0)
    assert (await asked)[1]["state"] == "ready"  # what was known before


async def test_a_request_that_waits_makes_a_cold_model_a_booting_one_and_hears_the_phase(
    serve: Serve, http: Any, control: HandControl, clock: HandClock
) -> None:
    served = serve(NOBODY, settings=settings(), engines=DIRECTORY, control=control, clock=clock)
    stream = await served.raw(chat(model="small"))
    await stream.until(b": booting 0.0 s\n\n")
    clock.advance(1.5)
    state = (await get(http, served.url + "/models/small"))[1]
    assert (state["state"], state["phase"], state["seconds"]) == ("booting", "container", 1.5)
    control.states["small"] = ModelState(state="booting", phase="weights", containers=1)
    clock.advance(1.1)
    await stream.until(b"2.6 s\n\n")
    assert (await get(http, served.url + "/models/small"))[1]["seconds"] == 2.6
    clock.advance(5)
    async with asyncio.timeout(20):
        await stream.until(b": booting (weights) 7.6 s\n\n")
    stream.leave()

    async def cold_again() -> bool:
        control.states["small"] = COLD
        clock.advance(1.1)
        return bool((await get(http, served.url + "/models/small"))[1]["state"] == "cold")

    async with asyncio.timeout(20):
        while not await cold_again():
            pass


async def test_without_a_platform_the_requests_tell(serve: Serve, http: Any, hand_engine: HandEngine) -> None:
    served = serve(hand_engine.url)
    assert (await get(http, served.url + "/models/scripted"))[1]["state"] == "unknown"
    stream = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("a")
    await stream.until(b'"a"')
    assert (await get(http, served.url + "/models/scripted"))[1]["state"] == "ready"
    stream.leave()


async def test_an_engine_that_said_that_it_cannot_start_has_failed_until_one_answers(
    serve: Serve, http: Any, hand_engine: HandEngine
) -> None:
    served = serve(hand_engine.url)
    stream = await served.raw(chat())
    talk = await hand_engine.next()
    body = b'{"error":{"message":"no such file: x.gguf","code":"engine_start_failed"}}'
    await talk.answer(503, body, x_engine_state="failed")
    await stream.rest()
    model = (await get(http, served.url + "/models/scripted"))[1]
    assert (model["state"], model["reason"]) == ("failed", "no such file: x.gguf")
    status, readiness = await get(http, served.url + "/readiness")
    assert (status, readiness["status"]) == (503, "not_ready")
    assert "scripted: no such file: x.gguf" in readiness["reason"]
    stream = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("a")
    await stream.until(b'"a"')
    assert (await get(http, served.url + "/readiness"))[0] == 200
    stream.leave()


async def test_what_is_known_exactly_outlives_what_a_request_was_told_before(
    serve: Serve, http: Any, hand_engine: HandEngine
) -> None:
    """An engine that did not start, and was loaded again since: nobody need ask it before it is ready."""
    control = ExactControl()
    served = serve(hand_engine.url, control=control)
    stream = await served.raw(chat())
    body = b'{"error":{"message":"no such file: x.gguf","code":"engine_start_failed"}}'
    await (await hand_engine.next()).answer(503, body, x_engine_state="failed")
    await stream.rest()
    for told in (ModelState(state="failed", reason="broken"), ModelState(state="booting"), READY):
        control.states["scripted"] = told
        assert (await get(http, served.url + "/models/scripted"))[1]["state"] == told.state
    assert (await get(http, served.url + "/readiness"))[0] == 200


async def test_one_model_that_can_serve_is_enough_to_be_ready(url: str, http: Any, control: HandControl) -> None:
    control.states["small"] = ModelState(state="failed", reason="broken")
    status, readiness = await get(http, url + "/readiness")
    assert (status, readiness["status"], readiness["models_available"]) == (200, "ready", 1)
    assert readiness["models"] == [{"id": "small", "state": "failed"}, {"id": "large", "state": "cold"}]


@pytest.mark.parametrize(
    ("told", "seen", "expected"),
    [
        (COLD, Seen(), COLD),
        (UNKNOWN, Seen(), UNKNOWN),
        (UNKNOWN, Seen(answering=1), ModelState(state="ready")),
        (UNKNOWN, Seen(waiting_since=90.0), ModelState(state="booting", seconds=10.0)),
        (READY, Seen(waiting_since=90.0), READY),
        (READY, Seen(failure="broken"), ModelState(state="failed", reason="broken", containers=1, requests=2)),
        (COLD, Seen(failure="broken"), COLD),
        (
            ModelState(state="failed", reason="mine"), Seen(failure="theirs"),
            ModelState(state="failed", reason="mine"),
        ),
    ],
)  # fmt: skip
def test_what_the_platform_tells_and_what_requests_see_make_one_state(
    told: ModelState, seen: Seen, expected: ModelState
) -> None:
    assert combine(told, seen, 100.0) == expected
