"""The whole service in a process of its own, whose state lies behind a proxy: asked, killed, and started again."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tests.service.deployment import ROOT, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.conftest import Faulty

MODEL = "scripted/steady"
PATIENCE = 60.0


@dataclass(frozen=True)
class Told:
    """An answer. `whole`: whether the service's own stream said that it is at its end."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def whole(self) -> bool:
        return self.status == 200 and "event: done" in self.text and "event: error" not in self.text

    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Service:
    process: subprocess.Popen[str]
    port: int
    log: Path

    def begin(self, path: str, body: Any = None, *, method: str = "", **headers: str) -> http.client.HTTPResponse:
        """Its answer's head has come."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        data = None if body is None else json.dumps(body)
        connection.request(method or ("GET" if body is None else "POST"), path, data, headers)
        return connection.getresponse()

    def ask(self, path: str, body: Any = None, **more: Any) -> Told:
        with self.begin(path, body, **more) as answer:
            return Told(answer.status, {name.lower(): value for name, value in answer.getheaders()},
                        answer.read().decode())  # fmt: skip

    def speak(self, session: str, prompt: str, **more: Any) -> Told:
        return self.ask("/chat/completions", turn(session, prompt, **more))

    def said(self, session: str) -> list[tuple[str, bool]]:
        """What was said in it, and whether that was interrupted."""
        told = self.ask(f"/chat/history/{quote(session)}").json()
        return [(one["content"], one.get("interrupted", False)) for one in told if one["role"] != "system"]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def turn(session: str | None, prompt: str, **script: Any) -> dict[str, Any]:
    """Answered by `t0 t1 ` unless its script says otherwise."""
    body = {"model-name": MODEL, "prompt": prompt, "x_scripted": {"tokens": 2, **script}}
    return body if session is None else {**body, "session-id": session}


@contextlib.contextmanager
def served(
    faulty: Faulty, log: Path, *, ahead: float = 0.0, read_seconds: float = 20.0, **settings: str
) -> Iterator[Service]:
    """From when it is ready; killed at the end if it still runs."""
    environment = {
        **{name: value for name, value in os.environ.items() if "__" not in name and not name.startswith("AWS_")},
        "SERVER_PORT": "0", "MODELS__AVAILABLE_MODELS": json.dumps([scripted("steady", scaledown_window=300)]),
        "AWS_ENDPOINT_URL": faulty.proxy.url, "AWS_ACCESS_KEY_ID": "emulator", "AWS_SECRET_ACCESS_KEY": "emulator",
        "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "STATE__KIND": "aws", "STATE__TABLE": faulty.state.name, "STATE__BUCKET": faulty.state.name,
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000000", "SESSIONS__TURN_WAIT_SECONDS": "20",
        "CHAOS_AHEAD": str(ahead), "CHAOS_READ_SECONDS": str(read_seconds),
        **settings,
    }  # fmt: skip
    with log.open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.standalone"], cwd=ROOT, env=environment,
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("Ready: http://127.0.0.1:"), log.read_text()
        yield Service(process, int(line.split()[1].rpartition(":")[2]), log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
