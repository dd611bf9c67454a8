"""The same service where containers are subprocesses: what machines get on which a warm process cannot fork."""

from __future__ import annotations

import openai
import pytest

from emulator.emulator import Emulator
from tests.service.deployment import DEMO, deploy


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_whole_path_answers_from_subprocess_containers() -> None:
    with Emulator(containers="process") as emulator:
        service = deploy(emulator, [DEMO])
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        answer = client.completions.create(model="demo", prompt="The project", max_tokens=4)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
