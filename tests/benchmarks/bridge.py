"""What the web function costs on the bridge by which Modal's runtime drives it, beside a bare ASGI application there.

Both are deployed to an emulator in this process, from `bridge_app.py`, and both stand before one scripted engine. A
token costs what the bridge makes of a chunk, some hundreds of microseconds, and what the application makes of it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from emulator.emulator import Emulator
from tests.benchmarks import bare_relay, our_service
from tests.benchmarks.callers import Task, call
from tests.benchmarks.gateways import KEY, MODEL, engine, our_settings
from tests.benchmarks.processes import cpu_seconds
from tests.service.deployment import ROOT

APP = "gateway-bridge"
STREAMS, ANSWERS, TOKENS, GAP = 8, 2, 100, 0.02


@dataclass(kw_only=True)
class Bridge:
    """Microseconds of CPU for each token, a round each: of the service that writes each event, of the service as it is
    deployed (events that come close together share a write), of the bare application."""

    ours: list[float] = field(default_factory=list)
    coalescing: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)

    def table(self) -> str:
        base = statistics.median(self.bare)
        lines = [f"\nthrough the emulator's bridge: {STREAMS} streams of {TOKENS} tokens, {GAP * 1000:g} ms apart"]
        for name, figures in (("bare ASGI", self.bare), ("ours", self.ours), ("coalescing", self.coalescing)):
            median = statistics.median(figures)
            lines.append(f"  {name:<11} {median:8.1f} CPU µs/token   x bare {median / base:5.2f}")
        return "\n".join(lines)


def bridge_figures(*, rounds: int) -> Bridge:
    """Measured in turns; a round before the first warms up. Raises RuntimeError when the app cannot be deployed."""
    figures = Bridge()
    targets = {"Bare": figures.bare, "Ours": figures.ours, "Coalescing": figures.coalescing}
    with engine() as upstream, Emulator() as emulator:
        _deploy(emulator, upstream)
        for turn in range(rounds + 1):
            for name, told in targets.items():
                spent = _round(emulator, name)
                if turn:
                    told.append(spent)
    return figures


def _deploy(emulator: Emulator, upstream: str) -> None:
    environment = {
        **os.environ, **emulator.environment, **our_settings(),
        our_service.UPSTREAM: upstream, bare_relay.UPSTREAM: upstream,
    }  # fmt: skip
    module = "tests.benchmarks.bridge_app"
    command = [Path(sys.executable).with_name("modal"), "deploy", "--name", APP, "-m", module]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"modal deploy failed:\n{done.stdout}\n{done.stderr}")


def _round(emulator: Emulator, function: str) -> float:
    messages = [{"role": "user", "content": "What does a bridge cost?"}]
    body = {
        "model": MODEL, "messages": messages, "max_tokens": TOKENS, "stream": True,
        "x_scripted": {"tokens": TOKENS, "gap": GAP},
    }  # fmt: skip
    url = emulator.web_url(APP, function)
    call(Task(url=url, body=body | {"x_scripted": {"tokens": 1}}, key=KEY))  # its container is there now
    (pid,) = [one.pid for one in emulator.containers(app=APP, function=function) if one.pid is not None]
    before = cpu_seconds(pid)
    call(Task(url=url, body=body, callers=STREAMS, answers=ANSWERS, key=KEY))
    return (cpu_seconds(pid) - before) * 1e6 / (STREAMS * ANSWERS * TOKENS)
