"""The real app.py, deployed with the real client to an emulator: what a user would do, ready for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.emulator import Emulator
from infra.secrets import ENGINE_API_KEY, PROXY_TOKEN_ID, PROXY_TOKEN_SECRET, SecretNames
from tests.ports import row_of_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
APP = "llm"
NAMES = SecretNames.of(APP)

DEMO = {"id": "demo", "name": "demo", "context_length": 2048, "path": "functions/demo/model"}


def scripted(model_id: str, *arguments: str, **scaling: int) -> dict[str, Any]:
    """The configuration of a model that the scripted engine serves."""
    return {
        "id": model_id, "name": f"scripted/{model_id}", "local_engine": "scripted",
        "scripted_args": arguments, "scaling": scaling,
    }  # fmt: skip


def run(emulator: Emulator, command: Sequence[str | Path], settings: Mapping[str, str]) -> str:
    """Run a client's command from the project's root under the emulator. Its output; raises with it on failure."""
    environment = {**os.environ, **emulator.environment, "DEPLOY__TARGET": "local", **settings}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def deploy(
    emulator: Emulator, models: Sequence[Mapping[str, Any]], *, strategy: str | None = None, **settings: str
) -> Service:
    """Run the setup and deploy app.py with these models (as in the configuration) and settings (`SECTION__KEY`).
    `strategy`: of a deploy over one that runs."""
    first_port = row_of_ports(1 + len(models))  # where threads are the containers, they are the machine's
    many = "1000000"  # requests a minute: tests that are about something else ask as often as they like
    configured = {
        "MODELS__AVAILABLE_MODELS": json.dumps(models), "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": many,
        "STATE__KIND": "memory", "DEPLOY__FIRST_PORT": str(first_port), **settings,
    }  # fmt: skip
    run(emulator, [sys.executable, "-m", "infra.setup"], configured)
    chosen = ["--strategy", strategy] if strategy else []
    run(emulator, [Path(sys.executable).with_name("modal"), "deploy", *chosen, "app.py"], configured)
    ports = {model["id"]: port for port, model in enumerate(models, first_port + 1)}
    return Service(emulator=emulator, url=emulator.web_url(APP, "Web"), ports=ports)


@dataclass(frozen=True)
class Service:
    """A deployed service. `url`: where its callers reach it."""

    emulator: Emulator
    url: str
    ports: Mapping[str, int]
    """Where each model's engine listens in its container: no other deployment's does."""

    def engine_url(self, model_id: str) -> str:
        return self.emulator.web_url(APP, f"engine-{model_id}")

    def engine_headers(self) -> dict[str, str]:
        """What the web endpoint sends to the engines' Servers."""
        secrets = self.emulator.core.state.secrets.values()
        (values,) = (secret.values for secret in secrets if secret.name == NAMES.web)
        return {
            "Modal-Key": values[PROXY_TOKEN_ID],
            "Modal-Secret": values[PROXY_TOKEN_SECRET],
            "Authorization": f"Bearer {values[ENGINE_API_KEY]}",
        }

    def ask_engine(self, model_id: str, path: str) -> Any:
        """The JSON that the engine of a model answers on `path`, past the web endpoint."""
        request = urllib.request.Request(self.engine_url(model_id) + path, headers=self.engine_headers())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def engine_processes(self, model_id: str) -> list[int]:
        """Process ids of a model's engine itself."""
        return list(processes(f"--port {self.ports[model_id]} "))

    def engines(self, model_id: str) -> list[int]:
        """Process ids of the containers of a model's engine."""
        return [c.pid for c in self.emulator.containers(app=APP, function=f"engine-{model_id}") if c.pid is not None]


def until(condition: Callable[[], bool], *, within: float = 20.0, pause: float = 0.002) -> float:
    """Wait for a condition; the seconds that it took. Raises TimeoutError. `pause`: seconds between two looks, more
    where a look takes the processor from what is waited for."""
    started = time.perf_counter()
    while not condition():
        if time.perf_counter() - started > within:
            raise TimeoutError(f"the condition did not hold within {within} s")
        time.sleep(pause)
    return time.perf_counter() - started


def processes(text: str) -> Iterator[int]:
    """Ids of the processes on this machine whose command line holds `text` (Linux)."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                yield int(folder.name)
