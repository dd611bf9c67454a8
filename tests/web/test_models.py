"""The models: listed, described, loaded and unloaded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from infra.keys import fingerprint
from infra.settings import ApiKey, Security, Settings
from tests.web.conftest import running, until
from tests.web.doubles import HandClock
from tests.web.model_kit import DIRECTORY, MODELS, NOBODY, READY, HandControl, get, post, settings
from web.application import create_application
from web.errors import EngineFailed
from web.services import Services
from web.states import COLD, ModelState

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Serve


@pytest.fixture
def control() -> HandControl:
    return HandControl()


@pytest.fixture
def url(serve: Serve, control: HandControl, clock: HandClock) -> str:
    """Of an application with two models whose engines answer nowhere."""
    address: str = serve(NOBODY, settings=settings(), engines=DIRECTORY, control=control, clock=clock).url
    return address


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
        clock.advance(1.1)
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
        clock.advance(1.1)
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
    async def test_with_keys_it_takes_one_with_the_scope_admin_for_that_model(
        self, serve: Serve, http: Any, control: HandControl, verb: str
    ) -> None:
        keys = (
            ApiKey(key=fingerprint("sk-user-1"), name="user"),
            ApiKey(key=fingerprint("sk-admin-1"), name="admin", scopes=("admin",), models=("small",)),
        )
        guarded = Settings(models=MODELS, security=Security(enable_auth=True, api_keys=keys))
        served = serve(NOBODY, settings=guarded, engines=DIRECTORY, control=control)
        status, body = await post(http, f"{served.url}/models/small/{verb}", authorization="Bearer sk-user-1")
        assert (status, body["error"]["code"]) == (403, "insufficient_scope")
        assert not control.done
        status, _ = await post(http, f"{served.url}/models/small/{verb}", authorization="Bearer sk-admin-1")
        assert status in (200, 202)
        status, body = await post(http, f"{served.url}/models/large/{verb}", authorization="Bearer sk-admin-1")
        assert (status, body["error"]["code"]) == (403, "model_not_allowed")
        assert control.done == [f"{verb} small"]


def test_the_application_s_end_is_the_control_s_too(web_loop: asyncio.AbstractEventLoop) -> None:
    control = HandControl()
    application = create_application(Services(settings=settings(), engines=DIRECTORY, control=control))
    with running(application, web_loop):
        assert not control.done
    assert control.done == ["close"]


def test_a_failure_keeps_its_reason_apart_from_its_sentence() -> None:
    assert EngineFailed("no such file").reason == "no such file"
