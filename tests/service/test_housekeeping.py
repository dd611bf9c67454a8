"""The deployed app's scheduled function, in a container of its own."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import TYPE_CHECKING, Any

import modal
import pytest

from emulator.emulator import Emulator
from infra.aws import Clients
from tests.parity.kit import client_of
from tests.service.deployment import APP, deploy, scripted, until

if TYPE_CHECKING:
    from tests.service.deployment import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def ask(service: Service, path: str, body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(service.url + path, data=data), timeout=60) as answer:
        told: bytes = answer.read()
        return told


def test_what_has_expired_is_archived_by_the_scheduled_function() -> None:
    with Emulator() as emulator:
        settings = {"STATE__KIND": "aws", "LIMITS__SESSION_TTL_SECONDS": "1", "JOBS__EVERY_MINUTES": "15"}
        service = deploy(emulator, [scripted("steady")], **settings)
        (run,) = [run for run in emulator.schedules() if run.app == APP]
        assert (run.function, run.schedule) == ("housekeeping", "Cron('*/15 * * * *')")
        turn = {"model-name": "steady", "prompt": "hi", "session-id": "s", "max-token": 2}
        assert b"event: done" in ask(service, "/chat/completions", turn)
        until(lambda: json.loads(ask(service, "/v1/sessions"))["data"] == [], within=60)
        client = client_of({**os.environ, **emulator.environment})
        done = modal.Function.from_name(APP, "housekeeping", client=client).remote()
        assert done["sessions"] == 1
        assert archives(emulator) == [("s", ["hi", "t0 t1 "])]


def archives(emulator: Emulator) -> list[tuple[str, list[str]]]:
    """Ids and what was said, without the system prompt."""
    told = emulator.environment
    clients = Clients(
        endpoint_url=told["AWS_ENDPOINT_URL"], region_name=told["AWS_REGION"],
        aws_access_key_id=told["AWS_ACCESS_KEY_ID"], aws_secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    s3 = clients.client("s3")
    names = [one["Key"] for one in s3.list_objects_v2(Bucket="llm-state", Prefix="archives/").get("Contents", ())]
    kept = [json.loads(s3.get_object(Bucket="llm-state", Key=name)["Body"].read()) for name in names]
    clients.close()
    return [(one["id"], [message["content"] for message in one["messages"][1:]]) for one in kept]
