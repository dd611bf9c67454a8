"""The gateways that are compared, each in a process of its own before the same scripted engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks import bare_relay, our_service
from tests.benchmarks.processes import NotStarted, running
from tests.ports import free_port
from tests.service.deployment import ROOT
from tests.web.collector import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.aws_kit import StateOfTest

MODEL = "scripted/steady"
KEY = "sk-benchmark-0123456789abcdef"
"""Callers send it to every gateway; those that know keys check it."""

UVICORN = (
    sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--workers", "1", "--no-access-log",
    "--log-level", "warning", "--host", "127.0.0.1",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """A gateway that runs. `pid`: of its process; 0: it is the engine itself, whose CPU is not counted."""

    name: str
    url: str
    pid: int


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """The scripted engine: its address."""
    port = free_port()
    command = [sys.executable, "-m", "functions.engines.scripted", "--port", str(port), "--model-name", MODEL]
    with running(command, port=port, environment={}):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def direct(upstream: str) -> Iterator[Gateway]:
    yield Gateway(name="direct", url=upstream, pid=0)


def our_settings() -> dict[str, str]:
    """The service's configuration: keys, limits of requests and of tokens, guards and metrics are on."""
    model = {"id": "steady", "name": MODEL, "local_engine": "scripted"}
    key = {"key": KEY, "name": "benchmark", "rate_limit_per_minute": 10**9, "tokens_per_minute": 10**12}
    return {
        "MODELS__AVAILABLE_MODELS": json.dumps([model]),
        "MODELS__MAX_CONCURRENT_REQUESTS": "1000",
        "SECURITY__ENABLE_AUTH": "true",
        "SECURITY__API_KEYS": json.dumps([key]),
    }


@contextlib.contextmanager
def ours(upstream: str) -> Iterator[Gateway]:
    """This service, as it stands alone, but before an engine that runs already."""
    port = free_port()
    command = [sys.executable, "-m", our_service.__name__, "--port", str(port)]
    with running(command, port=port, environment={our_service.UPSTREAM: upstream, **our_settings()}) as pid:
        yield Gateway(name="ours", url=f"http://127.0.0.1:{port}", pid=pid)


@contextlib.contextmanager
def ours_shared(upstream: str) -> Iterator[Gateway]:
    """The same, whose limits hold across containers: with the emulator's DynamoDB, in this process."""
    with _ours_with_table("ours shared", upstream, {our_service.SHARED_LIMITS: "1"}) as (gateway, state):
        yield gateway
        assert any("requests" in item for item in state.items()), "the limits were not shared"


@contextlib.contextmanager
def ours_all_on(upstream: str) -> Iterator[Gateway]:
    """The same, with all that its operator can turn on: limits and metrics shared, each request logged and traced."""
    with Collector() as collector:
        everything = {
            our_service.SHARED_LIMITS: "1", our_service.SHARED_METRICS: "1", our_service.LOGGED: "1",
            "OBSERVABILITY__OTLP_ENDPOINT": collector.url, "OBSERVABILITY__TRACE_SAMPLE_RATIO": "1",
        }  # fmt: skip
        with _ours_with_table("ours all on", upstream, everything) as (gateway, state):
            yield gateway
            assert any(item["pk"] == "metrics" for item in state.items()), "no metrics were written"
    assert collector.bodies, "no spans were sent"


@contextlib.contextmanager
def _ours_with_table(name: str, upstream: str, variables: dict[str, str]) -> Iterator[tuple[Gateway, StateOfTest]]:
    from emulator.aws import Aws
    from tests.aws_kit import state_of

    with Aws() as aws:
        state = state_of(aws)
        port = free_port()
        command = [sys.executable, "-m", our_service.__name__, "--port", str(port)]
        environment = {our_service.UPSTREAM: upstream, "STATE__TABLE": state.name, **variables}
        with running(command, port=port, environment=environment | our_settings() | aws.environment()) as pid:
            yield Gateway(name=name, url=f"http://127.0.0.1:{port}", pid=pid), state


@contextlib.contextmanager
def bare(upstream: str) -> Iterator[Gateway]:
    with _uvicorn("bare relay", "tests.benchmarks.bare_relay:create", {bare_relay.UPSTREAM: upstream}) as gateway:
        yield gateway


@contextlib.contextmanager
def smg(upstream: str) -> Iterator[Gateway]:
    """SGLang's model gateway, in Rust: as it comes, but for its key, and for a tokenizer that the engine has not."""
    port = free_port()
    command = [
        _virtual_environment("smg") / "smg", "launch", "--host", "127.0.0.1", "--port", str(port),
        "--worker-urls", upstream, "--policy", "round_robin", "--disable-tokenizer-autoload", "--log-level", "warn",
        "--api-key", KEY, "--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port()),
    ]  # fmt: skip
    with running(command, port=port, environment={}) as pid:
        yield Gateway(name="smg", url=f"http://127.0.0.1:{port}", pid=pid)


@contextlib.contextmanager
def litellm(upstream: str) -> Iterator[Gateway]:
    """LiteLLM's proxy with a master key, one worker, no database."""
    port = free_port()
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{upstream}/v1", "api_key": "none"}
    configuration = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": KEY},
        "litellm_settings": {"telemetry": False},
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        json.dump(configuration, file)  # JSON is YAML
        file.flush()
        binary = _virtual_environment("litellm") / "litellm"
        command = [binary, "--config", file.name, "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        environment = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
        with running(command, port=port, environment=environment, within=120) as pid:
            yield Gateway(name="LiteLLM", url=f"http://127.0.0.1:{port}", pid=pid)


STARTS: dict[str, Callable[[str], AbstractContextManager[Gateway]]] = {
    "direct": direct, "ours": ours, "ours shared": ours_shared, "ours all on": ours_all_on,
    "bare relay": bare, "smg": smg, "LiteLLM": litellm,
}  # fmt: skip


@contextlib.contextmanager
def gateways(names: list[str]) -> Iterator[tuple[list[Gateway], dict[str, str]]]:
    """Those that start, and of the others why they do not."""
    absent: dict[str, str] = {}
    there: list[Gateway] = []
    with contextlib.ExitStack() as stack:
        upstream = stack.enter_context(engine())
        for name in names:
            try:
                there.append(stack.enter_context(STARTS[name](upstream)))
            except NotStarted as error:
                absent[name] = str(error)
        yield there, absent


@contextlib.contextmanager
def _uvicorn(name: str, factory: str, environment: dict[str, str]) -> Iterator[Gateway]:
    port = free_port()
    command = [*UVICORN, "--port", str(port), "--factory", factory]
    with running(command, port=port, environment=environment) as pid:
        yield Gateway(name=name, url=f"http://127.0.0.1:{port}", pid=pid)


def _virtual_environment(name: str) -> Path:
    """The programs of a virtual environment of its own, made from its lock if need be. Raises NotStarted."""
    lock = Path(__file__).with_name("requirements") / f"{name}.txt"
    programs = ROOT / ".venvs" / name / "bin"
    made_from = programs.parent / "lock"
    locked = hashlib.sha256(lock.read_bytes()).hexdigest()
    if made_from.exists() and made_from.read_text() == locked:
        return programs
    uv = Path(sys.executable).with_name("uv")
    steps = [
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, programs.parent],
        [uv, "pip", "install", "--quiet", "--system-certs", "--python", programs / "python", "--compile-bytecode",
         "--require-hashes", "-r", lock],
    ]  # fmt: skip
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotStarted(f"{name} cannot be installed: {done.stderr.strip()[-500:]}")
    made_from.write_text(locked)
    return programs
