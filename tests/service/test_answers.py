"""The real app, deployed by the real client to the emulator, answers real clients with a real engine's tokens."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.service.conftest import DOMAIN
from tests.service.deployment import until
from tests.service.test_leaving import ask, connect, soon, wake

if TYPE_CHECKING:
    from tests.service.deployment import Service

pytestmark = pytest.mark.slow

QUESTION: Any = [{"role": "user", "content": "How do I run the tests?"}]


@pytest.fixture(scope="module")
def service(service_with_files: Service) -> Service:
    return service_with_files


@pytest.fixture
def client(service: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def test_the_models_are_listed_without_waking_an_engine(service: Service, client: openai.OpenAI) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed[:2] == ["demo", "broken"]
    assert client.models.retrieve("scripted/steady").id
    assert get(f"{service.url}/health")["status"] == "ok"
    assert get(f"{service.url}/readiness")["status"] == "ready"
    assert get(f"{service.url}/models/demo")["state"] == "cold"
    assert not service.engines("demo")


def test_a_configured_domain_leads_to_the_service_and_another_does_not(service: Service) -> None:
    shared = service.emulator.core.ingress.url
    statuses = []
    for domain in (DOMAIN, f"not-{DOMAIN}"):
        request = urllib.request.Request(f"{shared}/health", headers={"Host": domain})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                statuses.append(answer.status)
        except urllib.error.HTTPError as error:
            statuses.append(error.code)
    assert statuses == [200, 404]


def test_the_demo_model_answers_in_one_piece_and_streamed_alike(service: Service, client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    text = whole.choices[0].message.content or ""
    assert "make test" in text
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 0 < whole.usage.completion_tokens
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(model="demo", messages=QUESTION, temperature=0, stream=True)
    ]
    assert "".join(pieces) == text
    assert len(pieces) > 5
    until(lambda: get(f"{service.url}/models/demo")["state"] == "ready")


def test_text_completions_are_served_too(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="steady", prompt="one two", max_tokens=3)
    assert answer.choices[0].text == "t0 t1 t2 "
    assert answer.choices[0].finish_reason == "length"


def test_a_second_turn_finds_its_prefix_in_the_cache(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(model="demo", messages=QUESTION, temperature=0)
    talk = [
        *QUESTION,
        {"role": "assistant", "content": first.choices[0].message.content},
        {"role": "user", "content": "Thanks!"},
    ]
    second = client.chat.completions.create(model="demo", messages=talk, temperature=0)
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > 10


def test_a_broken_model_file_is_a_clear_error_and_no_dead_service(
    service: Service, client: openai.OpenAI, logs: list[Any]
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="broken", messages=QUESTION)
    assert caught.value.code == "engine_start_failed"
    assert "broken.gguf" in str(caught.value)
    assert any("broken.gguf" in line.text for line in logs)
    told = get(f"{service.url}/models/broken")
    assert told["state"] == "failed"
    assert told["reason"].startswith("broken.gguf")
    assert client.completions.create(model="steady", prompt="x", max_tokens=1).choices[0].text == "t0 "


def test_an_engine_is_not_to_be_had_without_the_proxy_token(service: Service) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{service.engine_url('steady')}/v1/models", timeout=60)
    assert caught.value.code == 401
    assert b"proxy authorization" in caught.value.read()


@pytest.mark.parametrize("stream", [True, False], ids=["streaming", "plain"])
async def test_leaving_frees_llamacpp_while_it_decodes(service: Service, stream: bool) -> None:
    await asyncio.to_thread(wake, service, "demo")

    def busy() -> int:
        return sum(slot["is_processing"] for slot in service.ask_engine("demo", "/slots"))

    async def leave() -> float:
        long = {"max_tokens": 1800, "logit_bias": {str(token): -100 for token in range(4)}, "temperature": 1.5}
        reader, writer = await connect(service, ask("demo", stream=stream, **long))
        await asyncio.to_thread(until, lambda: busy() == 1)
        if stream:
            await reader.readuntil(b'"content":"')
        writer.transport.abort()
        return await asyncio.to_thread(until, lambda: busy() == 0)

    assert await soon(leave)
