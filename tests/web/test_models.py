"""The models: listed, described with their state, loaded and unloaded, without waking an engine by looking."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from infra.keys import fingerprint
from infra.settings import ApiKey, Model, Models, Security, Settings, Web
from tests.web.conftest import chat, running, until
from tests.web.doubles import HandClock
from web.application import create_application
from web.engines import ConfiguredEngines, EngineTarget
from web.errors import EngineFailed, ModelBusy
from web.services import Services
from web.sightings import Seen
from web.states import COLD, UNKNOWN, ModelState, combine

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Serve
    from tests.web.doubles import HandEngine

NOBODY = "http://127.0.0.1:9"
READY = ModelState(state="ready", containers=1, requests=2)
MODELS = Models(
    available_models=(
        Model(id="small", name="org/small-model", context_length=64, quantization="q4"),
        Model(id="large", name="other/large.model", context_length=128),
    )
)
DIRECTORY = ConfiguredEngines(
    MODELS, {model: EngineTarget(url=NOBODY, kind="scripted", model=model) for model in ("small", "large")}
)


class HandControl:
    """An `EngineControl` that says what the test put into it."""

    def __init__(self, **states: ModelState) -> None:
        self.states = {"small": COLD, "large": COLD, **states}
        self.asked = 0
        self.done: list[str] = []
        self.raises: Exception | None = None
        self.holds = False

    def known(self, model: str) -> ModelState | None:
        return None

    async def state(self, model: str) -> ModelState:
        self.asked += 1
        if self.holds:
            await asyncio.Event().wait()
        if self.raises is not None:
            raise self.raises
        return self.states[model]

    async def load(self, model: str) -> None:
        self.done.append(f"load {model}")

    async def unload(self, model: str, *, force: bool) -> None:
        if self.states[model].requests and not force:
            raise ModelBusy(self.states[model].requests or 0)
        self.done.append(f"unload {model}" + " by force" * force)
        self.states[model] = COLD

    async def close(self) -> None:
        self.done.append("close")


def settings(**web: Any) -> Settings:
    return Settings(models=MODELS, web=Web(**web))


@pytest.fixture
def control() -> HandControl:
    return HandControl()


@pytest.fixture
def url(serve: Serve, control: HandControl, clock: HandClock) -> str:
    """Of an application with two models whose engines answer nowhere."""
    address: str = serve(NOBODY, settings=settings(), engines=DIRECTORY, control=control, clock=clock).url
    return address


async def get(http: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with http.get(url) as answer:
        return answer.status, await answer.json()


async def post(http: aiohttp.ClientSession, url: str, **headers: str) -> tuple[int, Any]:
    async with http.post(url, headers=headers) as answer:
        return answer.status, await answer.json()


class TestDescription:
    async def test_the_service_lists_names_and_openai_lists_objects(self, url: str, http: Any) -> None:
        assert await get(http, url + "/models") == (200, {"models": ["org/small-model", "other/large.model"]})
        _, listed = await get(http, url + "/v1/models")
        assert [(model["id"], model["object"]) for model in listed["data"]] == [("small", "model"), ("large", "model")]

    @pytest.mark.parametrize("label", ["small", "org/small-model", "org%2Fsmall-model"])
    async def test_a_model_is_found_by_its_id_and_by_its_name_with_the_slash(
        self, url: str, http: Any, label: str
    ) -> None:
        status, model = await get(http, f"{url}/models/{label}")
        assert status == 200
        assert (model["id"], model["name"]) == ("small", "org/small-model")
        assert (model["context_length"], model["quantization"]) == (64, "q4")
        assert (await get(http, f"{url}/v1/models/{label}"))[1]["object"] == "model"

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/models/nobody"), ("GET", "/models/org/nobody"), ("GET", "/v1/models/nobody"),
            ("POST", "/models/nobody/load"), ("POST", "/models/org/nobody/unload"),
        ],
    )  # fmt: skip
    async def test_an_unknown_one_is_a_404_that_names_it(self, url: str, http: Any, method: str, path: str) -> None:
        async with http.request(method, url + path) as answer:
            error = (await answer.json())["error"]
            assert (answer.status, error["code"]) == (404, "model_not_found")
            assert "nobody'" in error["message"]


class TestState:
    async def test_a_state_is_what_the_platform_tells(self, url: str, http: Any, control: HandControl) -> None:
        control.states |= {
            "small": ModelState(state="booting", phase="weights", seconds=12.34, containers=1), "large": READY,
        }  # fmt: skip
        small, large = [(await get(http, f"{url}/v1/models/{model}"))[1] for model in ("small", "large")]
        assert (small["state"], small["phase"], small["seconds"]) == ("booting", "weights", 12.3)
        assert (large["state"], large["phase"], large["seconds"]) == ("ready", None, None)
        assert (large["containers"], large["requests"]) == (1, 2)

    async def test_the_platform_is_asked_at_most_once_a_second_however_many_look(
        self, url: str, http: Any, control: HandControl, clock: HandClock
    ) -> None:
        await asyncio.gather(*(get(http, url + "/models/small") for _ in range(20)))
        assert control.asked == 1
        clock.advance(1.1)
        await get(http, url + "/models/small")
        assert control.asked == 2

    async def test_a_platform_that_fails_makes_a_state_unknown_and_no_error(
        self, url: str, http: Any, control: HandControl
    ) -> None:
        control.raises = ConnectionError("no platform")
        assert (await get(http, url + "/models/small"))[1]["state"] == "unknown"
        status, readiness = await get(http, url + "/readiness")
        assert (status, readiness["models_available"]) == (200, 2)

    async def test_a_slow_platform_does_not_hold_up_who_asks(
        self, url: str, http: Any, control: HandControl, clock: HandClock
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
        self, serve: Serve, http: Any, control: HandControl, clock: HandClock
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
        async with asyncio.timeout(3):
            await stream.until(b": booting (weights) 7.6 s\n\n")
        stream.leave()

        async def cold_again() -> bool:
            control.states["small"] = COLD
            clock.advance(1.1)
            return bool((await get(http, served.url + "/models/small"))[1]["state"] == "cold")

        async with asyncio.timeout(5):
            while not await cold_again():
                pass

    async def test_without_a_platform_the_requests_tell(self, serve: Serve, http: Any, hand_engine: HandEngine) -> None:
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
        self, serve: Serve, http: Any, hand_engine: HandEngine
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

    async def test_one_model_that_can_serve_is_enough_to_be_ready(
        self, url: str, http: Any, control: HandControl
    ) -> None:
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


class TestLoading:
    async def test_loading_is_accepted_and_tells_the_state(self, url: str, http: Any, control: HandControl) -> None:
        status, model = await post(http, url + "/models/other/large.model/load")
        assert (status, model["id"], model["state"]) == (202, "large", "cold")
        assert control.done == ["load large"]

    async def test_whoever_waits_is_answered_once_it_is_loaded(
        self, url: str, http: Any, control: HandControl, clock: HandClock
    ) -> None:
        asked = asyncio.create_task(post(http, url + "/models/small/load?wait=true"))
        await until(lambda: 0.25 in clock.pending())
        control.states["small"] = READY
        clock.advance(0.25)
        status, model = await asked
        assert (status, model["state"]) == (200, "ready")

    async def test_whoever_waits_longer_than_a_plain_caller_may_is_told_how_far_it_is(
        self, url: str, http: Any, control: HandControl, clock: HandClock
    ) -> None:
        control.states["small"] = ModelState(state="booting", phase="weights", containers=1)
        asked = asyncio.create_task(post(http, url + "/models/small/load?wait=true"))
        await until(lambda: 0.25 in clock.pending())
        clock.advance(settings().web.plain_deadline)
        status, model = await asked
        assert (status, model["state"], model["phase"]) == (202, "booting", "weights")

    async def test_whoever_waits_for_one_that_somebody_unloads_is_told_so(
        self, url: str, http: Any, control: HandControl, clock: HandClock
    ) -> None:
        control.states["small"] = ModelState(state="booting", phase="weights", containers=1)
        asked = asyncio.create_task(post(http, url + "/models/small/load?wait=true"))
        await until(lambda: 0.25 in clock.pending())
        control.states["small"] = COLD
        clock.advance(0.25)
        status, model = await asked
        assert (status, model["state"]) == (202, "cold")

    async def test_whoever_waits_for_one_that_cannot_start_gets_its_reason(
        self, url: str, http: Any, control: HandControl
    ) -> None:
        control.states["small"] = ModelState(state="failed", reason="no such file")
        status, body = await post(http, url + "/models/small/load?wait=true")
        assert (status, body["error"]["code"]) == (503, "engine_start_failed")
        assert "no such file" in body["error"]["message"]

    async def test_a_waiting_caller_who_leaves_is_not_waited_for(
        self, serve: Serve, control: HandControl, clock: HandClock
    ) -> None:
        served = serve(NOBODY, settings=settings(), engines=DIRECTORY, control=control, clock=clock)
        request = await served.raw(b"", "/models/small/load?wait=true")
        await until(lambda: 0.25 in clock.pending())
        request.leave()
        await until(lambda: 0.25 not in clock.pending())

    async def test_unloading_a_busy_model_is_a_conflict_unless_forced(
        self, url: str, http: Any, control: HandControl
    ) -> None:
        control.states["small"] = READY
        status, body = await post(http, url + "/models/small/unload")
        assert (status, body["error"]["code"]) == (409, "model_busy")
        status, model = await post(http, url + "/models/org/small-model/unload?force=true")
        assert (status, model["state"]) == (200, "cold")
        assert control.done == ["unload small by force"]

    @pytest.mark.parametrize("verb", ["load", "unload"])
    async def test_a_deployment_that_has_no_hold_of_its_engines_says_so(
        self, serve: Serve, http: Any, engine: ScriptedServer, verb: str
    ) -> None:
        status, body = await post(http, f"{serve(engine).url}/models/scripted/{verb}")
        assert (status, body["error"]["code"]) == (501, "not_supported")

    @pytest.mark.parametrize("verb", ["load", "unload"])
    async def test_with_keys_it_takes_one_with_the_scope_admin(
        self, serve: Serve, http: Any, control: HandControl, verb: str
    ) -> None:
        keys = (
            ApiKey(key=fingerprint("sk-user-1"), name="user"),
            ApiKey(key=fingerprint("sk-admin-1"), name="admin", scopes=("inference", "admin")),
        )
        guarded = Settings(models=MODELS, security=Security(enable_auth=True, api_keys=keys))
        served = serve(NOBODY, settings=guarded, engines=DIRECTORY, control=control)
        status, body = await post(http, f"{served.url}/models/small/{verb}", authorization="Bearer sk-user-1")
        assert (status, body["error"]["code"]) == (403, "insufficient_scope")
        assert not control.done
        status, _ = await post(http, f"{served.url}/models/small/{verb}", authorization="Bearer sk-admin-1")
        assert status in (200, 202)
        assert control.done == [f"{verb} small"]


def test_the_application_s_end_is_the_control_s_too(web_loop: asyncio.AbstractEventLoop) -> None:
    control = HandControl()
    application = create_application(Services(settings=settings(), engines=DIRECTORY, control=control))
    with running(application, web_loop):
        assert not control.done
    assert control.done == ["close"]


def test_a_failure_keeps_its_reason_apart_from_its_sentence() -> None:
    assert EngineFailed("no such file").reason == "no such file"
