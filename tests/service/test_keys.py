"""Keys on a deployed service: callers need one, the containers hold its hash alone, and only where it is needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import openai
import pytest

from emulator.emulator import Emulator
from infra.keys import KEYS_CARRIER, fingerprint
from tests.service.deployment import Service, deploy, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

KEY = "sk-deployed-0123456789"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    keys = json.dumps([{"key": KEY, "name": "mine", "rate_limit_per_minute": 1000}])
    with Emulator() as emulator:  # no threads: for the cloud, images name a Python, which this process may not be
        # As for the cloud: what refuses an unprotected endpoint there has to let this one pass.
        models = [scripted("steady") | {"engine": "scripted"}]
        options = {"SECURITY__ENABLE_AUTH": "true", "SECURITY__API_KEYS": keys, "DEPLOY__TARGET": "modal"}
        yield deploy(emulator, models, **options)


def client(service: Service, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=key, max_retries=0)


def test_a_deploy_with_keys_serves_those_who_have_one(service: Service) -> None:
    answer = client(service, KEY).chat.completions.with_raw_response.create(
        model="steady", messages=[{"role": "user", "content": "hi"}], max_tokens=3
    )
    assert answer.parse().choices[0].message.content
    assert answer.headers["x-ratelimit-limit-requests"] == "1000"
    for wrong in ("sk-unknown-0123456789", fingerprint(KEY)):
        with pytest.raises(openai.AuthenticationError) as caught:
            client(service, wrong).models.list()
        assert caught.value.code == "invalid_api_key"


def test_only_the_web_container_is_given_the_hash_and_nobody_the_key(service: Service) -> None:
    state = service.emulator.core.state
    holders = [secret for secret in state.secrets.values() if KEYS_CARRIER in secret.values]
    (web,) = holders
    assert fingerprint(KEY) in web.values[KEYS_CARRIER]
    everything = str([secret.values for secret in state.secrets.values()])
    assert everything.count(fingerprint(KEY)) == 1
    assert KEY not in everything
