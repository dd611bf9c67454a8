"""Keys in the table of a deployed service whose configuration has none: made, used and revoked from outside."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from emulator.emulator import Emulator
from tests.service.deployment import Service, deploy, run, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

SETTINGS = {"SECURITY__ENABLE_AUTH": "true", "STATE__KIND": "aws"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Emulator() as emulator:
        yield deploy(emulator, [scripted("steady")], **SETTINGS)


def command(service: Service, *words: str) -> Any:
    told = run(service.emulator, [sys.executable, "-m", "infra.admin", "keys", *words, "--json"], SETTINGS)
    return json.loads(told)


def client(service: Service, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=2)


def test_a_service_without_keys_is_given_one_from_outside_and_refuses_it_in_time(service: Service) -> None:
    with pytest.raises(openai.AuthenticationError):
        client(service, "sk-nobody-0123456789").models.list()
    made = command(service, "create", "ci", "--scope", "inference", "--scope", "admin", "--rate-limit", "1000")
    asking = client(service, made["key"])
    answer = asking.chat.completions.with_raw_response.create(
        model="steady", messages=[{"role": "user", "content": "hi"}], max_tokens=3
    )
    assert answer.parse().choices[0].message.content
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    (listed,) = command(service, "list")
    assert (listed["id"], listed["status"]) == (made["id"], "active")
    command(service, "revoke", made["id"])
    until = time.monotonic() + 45  # far more than it takes: other tests turn a clock, and hold it to its 10 s
    with pytest.raises(openai.AuthenticationError):
        while time.monotonic() < until:
            asking.models.list()
            time.sleep(0.2)
