"""The web endpoint as a Modal Server (`deploy.web = "server"`): the same service, with uvicorn on a port."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import openai
import pytest

from emulator.emulator import Emulator
from tests.service.deployment import APP, DEMO, Service, deploy, scripted, until
from tests.service.test_leaving import test_leaving_ends_the_work_of_the_engine  # noqa: F401 - it holds here too

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SERVER = {"DEPLOY__WEB": "server", "WEB__SCALING": '{"min_containers": 1, "max_containers": 1}'}
MODELS: list[dict[str, Any]] = [
    DEMO, scripted("steady", scaledown_window=300), scripted("deaf", "--deaf-to-close", scaledown_window=300),
    scripted("slow.boot", "--boot-seconds", "1", scaledown_window=300),
]  # fmt: skip
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Emulator() as emulator:  # no threads: a deploy has an old and a new web container share a port for a while
        deployed = deploy(emulator, MODELS, **SERVER)
        until(lambda: call(deployed, "/health")[0] == 200, within=30)
        yield deployed


def call(service: Service, path: str, *, post: bool = False) -> tuple[int, Any]:
    request = urllib.request.Request(service.url + path, method="POST" if post else "GET")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text.startswith(b"{") else text


def sdk(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def state(service: Service, model: str) -> Any:
    return call(service, f"/models/{model}")[1]["state"]


def test_anybody_reaches_it_without_modal_s_own_credentials_and_it_is_a_server(service: Service) -> None:
    assert call(service, "/readiness")[1]["status"] == "ready"
    (web,) = [at for at in service.emulator.addresses() if at.function == "Web"]
    assert web.is_server
    assert call(service, "/nothing")[1]["error"]["code"] == "unknown_url"


def test_it_answers_streamed_and_whole_alike(service: Service) -> None:
    ask: Any = {"model": "demo", "messages": [{"role": "user", "content": "How do I run the tests?"}], "temperature": 0}
    text = sdk(service).chat.completions.create(**ask).choices[0].message.content
    pieces = [
        chunk.choices[0].delta.content or "" for chunk in sdk(service).chat.completions.create(**ask, stream=True)
    ]
    assert "".join(pieces) == text
    assert "make test" in text


def test_a_deploy_while_a_stream_runs_lets_it_end_and_the_old_container_leaves(service: Service) -> None:
    def containers() -> set[str]:
        return {container.task_id for container in service.emulator.containers(app=APP, function="Web")}

    (old,) = containers()
    stream = iter(
        sdk(service).chat.completions.create(
            model="steady", messages=HELLO, stream=True, extra_body={"x_scripted": {"tokens": 400, "gap": 0.02}}
        )
    )
    next(stream)
    deploy(service.emulator, MODELS, **SERVER, SERVER__LOG_LEVEL="warn")
    until(lambda: containers() != {old})
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).split()[-1] == "t399"
    until(lambda: old not in containers())
    until(lambda: call(service, "/health")[0] == 200)


async def test_a_model_s_state_is_told_from_cold_over_booting_to_ready_and_looking_wakes_nothing(
    service: Service,
) -> None:
    label = "scripted/slow.boot"
    assert await asyncio.to_thread(state, service, label) == "cold"
    assert not service.engine_processes("slow.boot")
    seen: list[str] = []
    client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    asked = asyncio.create_task(client.completions.create(model=label, prompt="x", max_tokens=1))
    while not asked.done():
        seen.append(await asyncio.to_thread(state, service, label))
    await asked
    await client.close()
    assert "booting" in seen
    assert set(seen) <= {"cold", "booting", "ready"}

    async with asyncio.timeout(20):  # what the platform counts is asked once a second
        told = None
        while told != ("ready", 1, 0):
            model = (await asyncio.to_thread(call, service, f"/v1/models/{label}"))[1]
            told = (model["state"], model["containers"], model["requests"])


def test_a_model_is_loaded_before_it_is_asked_for_and_unloaded_once_idle(service: Service) -> None:
    status, model = call(service, "/models/scripted/deaf/load?wait=true", post=True)
    assert (status, model["state"]) == (200, "ready")
    assert service.engines("deaf")
    status, refusal = call(service, "/models/deaf/unload?force=true", post=True)
    assert (status, refusal["error"]["code"]) == (501, "not_supported")
    assert call(service, "/models/deaf/unload", post=True)[0] in (200, 202)
    until(lambda: not service.engines("deaf"))
    until(lambda: state(service, "deaf") == "cold")
    until(lambda: settled(service, "engine-deaf") == (0, 300.0))


def settled(service: Service, server: str) -> tuple[int, float]:
    """A Server's minimum of containers and its scaledown window, as they are now."""
    (policy,) = [pool.policy for pool in service.emulator.core.scheduler.pools if pool.record.tag == server]
    return policy.min_containers, policy.scaledown_window
