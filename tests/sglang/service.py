"""The service before a real engine: a process of its own, in the environment where that engine is installed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from functions.demo import MODEL_FOLDER
from functions.engines.llamacpp_server import API_KEY_VARIABLE
from tests.ports import free_port
from tests.service.deployment import ROOT, processes, until
from tests.sglang import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

Kind = Literal["llamacpp", "sglang"]
KINDS: tuple[Kind, ...] = ("llamacpp", "sglang")
PLACES = 2
"""Requests that an engine works on at once."""
WAITING = 2
"""And that the service sends it beside them, where the engine keeps them."""
CONTEXT = 2048
PORT = "SERVER__PORT"
HEALTH_SECONDS = 12
"""An engine that took longer twice in a row to say that it is well is replaced. SGLang takes a second at least."""
BOOT_SECONDS = 500
"""SGLang takes 20 s on a quiet machine with two CPUs, and twenty times that on a busy one."""


def models(kind: Kind) -> list[dict[str, Any]]:
    """Of both engines the same models; small chunks of prefill, so that there is a prefill to leave."""
    common = {
        "path": str(MODEL_FOLDER), "context_length": CONTEXT, "local_engine": kind, "startup_timeout": BOOT_SECONDS,
    }  # fmt: skip
    chunks = {"max_running_requests": PLACES, "chunked_prefill_size": 64}
    return [
        {"id": "demo", "name": "demo", **common} | ({"sglang": chunks} if kind == "sglang" else {}),
        {"id": "vectors", "name": "demo/vectors", "embedding": True, "pooling": "last", "matryoshka": True, **common},
    ]


def settings(kind: Kind) -> dict[str, str]:
    """The environment that configures the service."""
    return {
        "MODELS__AVAILABLE_MODELS": json.dumps(models(kind)),
        "MODELS__MAX_CONCURRENT_REQUESTS": str(PLACES + (WAITING if kind == "sglang" else 0)),
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "1000000",
        "LIMITS__MAX_PROMPT_LENGTH": "1000000",
        "LIMITS__MAX_RESPONSE_TOKENS": str(CONTEXT),
        "WEB__PLAIN_DEADLINE": "149",
        "HEALTH__PROBE_SECONDS": "1",
        "HEALTH__PROBE_TIMEOUT": str(HEALTH_SECONDS),
        "HEALTH__FAILURES": "2",
        "STATE__KIND": "memory",
        "OMP_NUM_THREADS": "1",  # so small a model computes less than threads wait for each other
    }


def interpreter(kind: Kind) -> Path:
    """The Python that has the engine. Raises CannotInstall, and NotOnThisMachine."""
    return environment.python() if kind == "sglang" else Path(sys.executable)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What an engine says that it works on now: in prefill or decoding, in its own queue, and the tokens of those that
    run."""

    running: int
    queued: int
    tokens: int = field(default=0, compare=False)


@dataclass(kw_only=True)
class Inside:
    """An engine, past the service: at its own port, with its own key."""

    kind: Kind
    pid: int
    url: str
    key: str

    @classmethod
    def of(cls, kind: Kind, model: str, *, port: int) -> Inside:
        """The engine process of this model that the service at `port` has started: the service's environment tells."""
        name = f"--served-model-name {model} " if kind == "sglang" else f"--alias {model} "
        pid = next(pid for pid in processes(name) if _environment_of(_parent_of(pid)).get(PORT) == str(port))
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if kind == "sglang":
            key = json.loads(Path(words[words.index("--config") + 1]).read_text(encoding="utf-8"))["api-key"]
        else:
            key = _environment_of(pid)[API_KEY_VARIABLE]
        return cls(kind=kind, pid=pid, url=f"http://127.0.0.1:{words[words.index('--port') + 1]}", key=key)

    def get(self, path: str) -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, headers={"authorization": f"Bearer {self.key}"})
        return _answer(request)

    def load(self) -> Load:
        if self.kind == "llamacpp":
            slots = json.loads(self.get("/slots")[1])
            working = [slot for slot in slots if slot["is_processing"]]
            decoded = sum(token["n_decoded"] for slot in working for token in slot["next_token"])
            return Load(running=len(working), queued=0, tokens=decoded)
        (told,) = json.loads(self.get("/v1/loads?include=core")[1])["loads"]
        return Load(running=told["num_running_reqs"], queued=told["num_waiting_reqs"], tokens=told["num_used_tokens"])


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _environment_of(pid: int) -> dict[str, str]:
    try:
        text = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def _answer(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@dataclass(kw_only=True)
class Service:
    kind: Kind
    process: subprocess.Popen[bytes]
    url: str
    port: int
    log: Path

    def get(self, path: str) -> tuple[int, Any]:
        status, text = _answer(urllib.request.Request(self.url + path))
        return status, json.loads(text)

    def text(self, path: str) -> str:
        return _answer(urllib.request.Request(self.url + path))[1]

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = json.dumps(body or {}).encode()
        status, text = _answer(urllib.request.Request(self.url + path, data, {"content-type": "application/json"}))
        return status, json.loads(text)

    def state(self, model: str) -> str:
        return str(self.get(f"/models/{model}")[1]["state"])

    def loaded(self, model: str) -> Inside:
        """Its engine, once it has booted."""
        self.post(f"/models/{model}/load")
        until(lambda: self.state(model) != "booting", within=BOOT_SECONDS, pause=0.25)
        assert self.state(model) == "ready", self.last_words()
        return Inside.of(self.kind, model, port=self.port)

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def running(kind: Kind, log: Path) -> Iterator[Service]:
    """The service, once it answers; its engines start when they are asked for. Ended with all that it has started."""
    port = free_port()
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    place = {"SERVER__HOST": "127.0.0.1", PORT: str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [interpreter(kind), "-m", "functions.standalone"], cwd=ROOT,
            env=variables | environment.ON_A_CPU | settings(kind) | place,
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        service = Service(kind=kind, process=process, url=f"http://127.0.0.1:{port}", port=port, log=log)
        try:
            until(lambda: _is_up(service), within=120)
            yield service
        finally:
            _end(process)


def _is_up(service: Service) -> bool:
    assert service.process.poll() is None, service.last_words()
    try:
        return service.get("/health")[0] == 200
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    while process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.05)
    process.kill()
    process.wait()
