"""A plain answer that takes longer than the platform waits for a first byte: through the web function, by the SDKs."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import anthropic
import openai
import pytest

from emulator.emulator import Emulator
from emulator.ingress import functions
from tests.service.deployment import deploy, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.service.deployment import Service

PLATFORM_WAITS = 2.0
"""Modal waits 150 s. The test waits less."""
BEGINS = 1.0
SLOW = {"x_scripted": {"ttft": 4.0, "tokens": 2}}
QUESTION = [{"role": "user", "content": "x"}]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    # Forked containers: these tests wait on real time, most of it, and threads would make them no faster.
    with pytest.MonkeyPatch.context() as patch, Emulator() as emulator:
        service = deploy(
            emulator, [scripted("slow", min_containers=1)],
            WEB__PLAIN_KEEPALIVE_AFTER=str(BEGINS), WEB__HEARTBEAT_INTERVAL="0.5",
        )  # fmt: skip
        # Boots first: they take longer than the platform's patience is to be from now on.
        openai.OpenAI(base_url=service.url + "/v1", api_key="none").chat.completions.create(
            model="slow", messages=QUESTION, max_tokens=1
        )
        patch.setattr(functions, "FIRST_BYTE_SECONDS", PLATFORM_WAITS)
        yield service


def test_openai_s_sdk_reads_it(service: Service) -> None:
    client = openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)
    answer = client.chat.completions.create(model="slow", messages=QUESTION, extra_body=SLOW)
    assert answer.choices[0].message.content == "t0 t1 "


def test_anthropic_s_sdk_reads_it(service: Service) -> None:
    client = anthropic.Anthropic(base_url=service.url, api_key="none", max_retries=0)
    answer = client.messages.create(model="slow", messages=QUESTION, max_tokens=10, extra_body=SLOW)
    assert answer.content[0].text == "t0 t1 "


def test_there_is_no_redirect_and_the_body_begins_with_white_space(service: Service) -> None:
    body = ask(service, SLOW)
    assert body.startswith(b"  ")
    assert json.loads(body)["choices"][0]["message"]["content"] == "t0 t1 "


def test_a_failure_after_it_began_is_a_connection_error(service: Service) -> None:
    client = openai.OpenAI(base_url=service.url + "/v1", api_key="none", max_retries=0)
    cut = {"x_scripted": {"gap": 1.5, "tokens": 9, "cut_after": 2}}
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="slow", messages=QUESTION, extra_body=cut)


def ask(service: Service, more: object) -> bytes:
    body = {"model": "slow", "messages": QUESTION} | dict(more)  # type: ignore[call-overload]
    request = urllib.request.Request(
        service.url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    with urllib.request.build_opener(Stay).open(request, timeout=30) as answer:
        data: bytes = answer.read()
        return data
