"""What a request held is freed when it ends. The garbage collector, which comes seldom, has nothing to do with it."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import chat, until
from web.asgi import Presence
from web.dialects.engines import EngineCall
from web.dialects.request import GenerationRequest
from web.extensions import CONNECTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Json, Served

ENDINGS = {
    "a stream": chat(),
    "a plain answer": chat(stream=False),
    "several choices": chat(n=2),
    "an engine that refuses": chat({"error_after": 0, "error_status": 400}),
    "an engine that fails": chat({"error_after": 3}),
    "an engine that fails under a plain answer": chat({"error_after": 3}, stream=False),
    "an engine that dies": chat({"cut_after": 3}),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # so that there is little to look through
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def held() -> int:
    """How many prompts are in memory, as they were asked or as they are told to an engine."""
    return sum(isinstance(thing, EngineCall | GenerationRequest) for thing in gc.get_objects())


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("body", ENDINGS.values(), ids=ENDINGS.keys())
@pytest.mark.slow
@pytest.mark.alone
async def test_an_answer_leaves_no_prompt_behind(served: Served, body: Json) -> None:
    before = held()
    assert await (await served.raw(body)).rest()
    await until(lambda: held() <= before)


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("stream", [True, False])
async def test_a_caller_who_leaves_leaves_no_prompt_behind(
    served: Served, engine: ScriptedServer, stream: bool
) -> None:
    before = held()
    response = await served.raw(chat({"ttft": 60}, stream=stream))
    await until(lambda: engine.state()["active"] == 1)
    response.leave()
    await until(lambda: held() <= before)


class LostConnection:
    """As the server tells of a connection that is lost already: soon."""

    def watch(self, lost: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_soon(lost)

    def forget(self, lost: Callable[[], object]) -> None:
        """It is on its way."""


async def unheard() -> Any:
    raise AssertionError("the connection is watched")


async def test_a_leaving_that_is_told_late_ends_nothing_else() -> None:
    scope: Any = {"extensions": {CONNECTION: LostConnection()}}
    with pytest.raises(KeyError):
        async with Presence(unheard, scope):
            raise KeyError
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
