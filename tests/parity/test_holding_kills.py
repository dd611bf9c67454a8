"""`emulator up` is killed at any moment, and goes on: what it had answered is there, and no more is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
import modal
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from emulator.record import read
from tests.emulator.cli_kit import running
from tests.emulator.heart_kit import write_app
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.emulator_only("Modal is not ours to kill")]

APP = """
import modal
app = modal.App("survivor")

@app.function()
@modal.fastapi_endpoint()
def page():
    return "here"
"""
ROUNDS = 3


def aws(environment: dict[str, str], service: str) -> Any:
    return boto3.session.Session().client(
        service,
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name="us-east-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(retries={"max_attempts": 0}, connect_timeout=60, read_timeout=60),
    )


@dataclass
class Writer:
    """Writes until the emulator is gone, and knows what it was told is written."""

    environment: dict[str, str]
    answered: dict[str, list[str]] = field(default_factory=dict)

    def run(self, kind: str, write: Callable[[str], object]) -> None:
        told = self.answered.setdefault(kind, [])
        for number in range(100_000):
            name = f"{kind}-{os.urandom(3).hex()}-{number}"
            try:
                write(name)
            except (BotoCoreError, ClientError, modal.exception.Error, ConnectionError):
                return
            told.append(name)


def make_places(environment: dict[str, str]) -> None:
    aws(environment, "s3").create_bucket(Bucket="objects")
    aws(environment, "dynamodb").create_table(
        TableName="items",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


def writers(environment: dict[str, str], client: modal.Client) -> dict[str, Callable[[str], object]]:
    s3, dynamodb = aws(environment, "s3"), aws(environment, "dynamodb")
    return {
        "objects": lambda name: s3.put_object(Bucket="objects", Key=name, Body=name.encode() * 1000),
        "items": lambda name: dynamodb.put_item(TableName="items", Item={"pk": {"S": name}}),
        "secrets": lambda name: modal.Secret.objects.create(name, {"NAME": name}, client=client),
    }


def kept(environment: dict[str, str], client: modal.Client) -> dict[str, set[str]]:
    s3, dynamodb = aws(environment, "s3"), aws(environment, "dynamodb")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="objects")
    objects = {found["Key"] for page in pages for found in page.get("Contents", [])}
    for name in random.sample(sorted(objects), min(5, len(objects))):
        assert s3.get_object(Bucket="objects", Key=name)["Body"].read() == name.encode() * 1000
    items = {
        item["pk"]["S"] for page in dynamodb.get_paginator("scan").paginate(TableName="items") for item in page["Items"]
    }
    secrets = {str(secret.name) for secret in modal.Secret.objects.list(client=client)}
    return {"objects": objects, "items": items, "secrets": secrets}


def check(environment: dict[str, str], url: str, answered: dict[str, list[str]]) -> None:
    """All that was answered is there, and the app serves."""
    with urllib.request.urlopen(url) as page:
        assert page.read() == b'"here"'
    with client_of(environment) as client:
        found = kept(environment, client)
    for kind, names in answered.items():
        lost = set(names) - found[kind]
        assert not lost, f"{len(lost)} {kind} of {len(names)} are lost: {lost}"


def write_and_kill(environment: dict[str, str], group: int) -> dict[str, list[str]]:
    """Write from several sides, kill at some moment, and answer what was answered."""
    with client_of(environment) as client:
        writer, threads = Writer(environment), list[threading.Thread]()
        for kind, write in writers(environment, client).items():
            threads.append(threading.Thread(target=writer.run, args=(kind, write), daemon=True))
            threads[-1].start()
        while not all(writer.answered.get(kind) for kind in ("objects", "items", "secrets")):
            assert any(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        time.sleep(random.uniform(0, 1))
        os.killpg(group, signal.SIGKILL)
        for thread in threads:
            thread.join()
    return writer.answered


@pytest.mark.row("How it holds", "`kill -9`: what is kept")
async def test_what_was_answered_before_a_kill_is_there_afterwards(tmp_path: Path) -> None:
    write_app(tmp_path, APP)
    answered: dict[str, list[str]] = {}
    url = ""
    for number in range(ROUNDS + 1):
        async with running("up", "--state", "kept", "--no-reload", "--port", "0", cwd=tmp_path) as up:
            ready = await up.says(r"^Ready: (\S+)$")
            assert ready[1] == (url or ready[1]), "the app has another address"
            url, environment = ready[1], read(tmp_path / "kept")
            if not number:
                await asyncio.to_thread(make_places, environment)
            await asyncio.to_thread(check, environment, url, answered)
            if number == ROUNDS:
                break
            written = await asyncio.to_thread(write_and_kill, environment, up.process.pid)
            for kind, names in written.items():
                answered.setdefault(kind, []).extend(names)
    assert all(len(names) >= ROUNDS for names in answered.values())
