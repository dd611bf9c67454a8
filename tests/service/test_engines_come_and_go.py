"""Engines scale to zero, boot again, and die: callers see a slower first token or an error event, never silence."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest

from tests.service.deployment import until

if TYPE_CHECKING:
    from tests.service.deployment import Service


pytestmark = [pytest.mark.any_containers, pytest.mark.slow]


def body(model: str, **script: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": model, "messages": messages, "stream": True, "x_scripted": script}


async def read(service: Service, request: dict[str, Any]) -> list[str]:
    """The lines of a stream, comments and all."""
    url = f"{service.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=request) as answer:
        assert answer.status == 200
        return [line.decode().strip() async for line in answer.content if line.strip()]


def content(lines: list[str]) -> str:
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


async def test_a_booting_engine_is_announced_with_comments_and_then_answers(service: Service) -> None:
    lines = await read(service, body("slow-boot", tokens=3))
    booting = [line for line in lines if line.startswith(": booting")]
    assert len(booting) >= 3
    assert lines.index(booting[-1]) < next(i for i, line in enumerate(lines) if line.startswith("data:"))
    assert content(lines) == "t0 t1 t2 "
    assert lines[-1] == "data: [DONE]"


@pytest.mark.slow
async def test_an_idle_engine_is_gone_with_its_process_and_the_next_request_boots_it_again(service: Service) -> None:
    assert content(await read(service, body("brief", tokens=2))) == "t0 t1 "
    engine = service.engine_processes("brief")
    assert engine
    assert service.engines("brief")
    until(lambda: not service.engines("brief") and not any(map(os.path.exists, (f"/proc/{pid}" for pid in engine))))
    lines = await read(service, body("brief", tokens=2))
    assert content(lines) == "t0 t1 "
    assert service.engine_processes("brief") != engine


async def test_killing_the_engine_in_the_middle_of_a_stream_is_told_and_the_next_caller_is_served(
    service: Service,
) -> None:
    url = f"{service.url}/v1/chat/completions"
    request = body("steady", tokens=1000, gap=0.02)
    lines: list[str] = []
    async with aiohttp.ClientSession() as session, session.post(url, json=request) as answer:
        async for line in answer.content:
            lines.append(line.decode().strip())
            if len(content(lines).split()) == 3:
                for pid in service.engine_processes("steady"):
                    os.kill(pid, signal.SIGKILL)
    error = json.loads(next(line for line in reversed(lines) if line.startswith("data: {"))[6:])["error"]
    assert error["code"] == "engine_died"
    assert "data: [DONE]" not in lines
    assert content(await read(service, body("steady", tokens=2))) == "t0 t1 "


async def test_the_sdk_raises_for_a_stream_whose_engine_died(service: Service) -> None:
    client = openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    stream = await client.chat.completions.create(
        model="steady",
        messages=[{"role": "user", "content": "x"}],
        stream=True,
        extra_body={"x_scripted": {"crash_after": 2}},
    )
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass
    await client.close()


async def test_a_stream_that_is_lost_on_its_way_from_the_engine_is_told(service: Service) -> None:
    await read(service, body("steady", tokens=1))
    fault = service.emulator.faults.drop_stream("engine-steady", after_events=3)
    lines = await read(service, body("steady", tokens=1000))
    assert fault.struck == 1
    assert content(lines).startswith("t0")
    error = json.loads(next(line for line in reversed(lines) if line.startswith("data: {"))[6:])["error"]
    assert error["code"] == "engine_died"
    assert "data: [DONE]" not in lines
    assert content(await read(service, body("steady", tokens=2))) == "t0 t1 "


@pytest.mark.slow
async def test_a_killed_container_is_replaced_and_its_engine_goes_with_it(service: Service) -> None:
    await read(service, body("steady", tokens=1))
    engine = service.engine_processes("steady")
    (killed,) = service.emulator.faults.kill("engine-steady")
    started = time.monotonic()
    assert content(await read(service, body("steady", tokens=2))) == "t0 t1 "
    assert time.monotonic() - started < 30
    assert all(c.task_id != killed for c in service.emulator.containers(function="engine-steady"))
    assert engine
    until(lambda: not set(engine) & set(service.engine_processes("steady")))
