"""A batch of the deployed service: taken by the web container, worked on by one of its own, kept in DynamoDB and S3."""

from __future__ import annotations

import json

import openai
import pytest

from emulator.emulator import Emulator
from tests.service.deployment import APP, deploy, scripted, until
from tests.web.batch_kit import OVER, lines, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

LINES = 40


def test_a_batch_is_worked_on_by_a_container_of_its_own() -> None:
    with Emulator() as emulator:
        service = deploy(emulator, [scripted("steady")], STATE__KIND="aws")
        sdk = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=3)
        asked = [request(f"line {n}", model="steady") for n in range(LINES)]
        file = sdk.files.create(file=("in.jsonl", lines(asked)), purpose="batch")
        batch = sdk.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"of": "mine"}
        )
        assert batch.status == "validating"
        until(lambda: sdk.batches.retrieve(batch.id).status in OVER, within=90)
        batch = sdk.batches.retrieve(batch.id)
        assert batch.status == "completed", batch
        answers = [json.loads(line) for line in sdk.files.content(str(batch.output_file_id)).text.splitlines()]
        assert sorted(line["custom_id"] for line in answers) == sorted(one["custom_id"] for one in asked)
        assert {line["response"]["status_code"] for line in answers} == {200}
        assert any(container.function == "batch" for container in emulator.containers(app=APP))
