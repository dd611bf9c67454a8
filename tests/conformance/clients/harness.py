"""Runs the checks of one client in that client's own environment and tells how each went: the standard library alone.

    python harness.py --results FILE [--only NAMES] SCRIPT…

`CONFORMANCE_TARGET` describes the service (see `Target`). Each line of FILE is one check's
`{"check", "outcome": "passed" | "failed" | "skipped", "detail", "seconds"}`; the first line tells the client's version.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import signal
import time
import traceback
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST_CHECK = 90
"""Seconds that one check may take: a client that hangs has failed."""

COLD, FULL, SINGLE = "cold", "full", "single"
"""Models of a scripted target: one whose engine takes a second to boot, one that is always at capacity, one that
serves a single request at once, slowly."""
BROKEN, CALLING, WRITING = "broken", "calling", "writing"
"""And, for clients that cannot script: one that breaks in mid-stream, one that calls a tool, one that writes JSON."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The service that is spoken to."""

    url: str
    """Without `/v1`."""
    api_key: str
    model: str
    features: frozenset[str]
    """What it promises beyond an answer: see tests/conformance/targets.py."""
    tool_model: str = ""
    embedding_model: str = ""
    limited_key: str = ""
    """With `limits`: a key that has two requests a minute, this client's own."""

    @classmethod
    def from_environment(cls) -> Target:
        told = json.loads(os.environ["CONFORMANCE_TARGET"])
        return cls(**{**told, "features": frozenset(told["features"])})


class Skip(Exception):
    """The check does not apply here; the message says why."""


CHECKS: dict[str, tuple[Callable[[Target], None], frozenset[str]]] = {}


def check(*needs: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
    """Register a function as a check, whose name is its sentence, of targets that have all features in `needs`."""

    def register(function: Callable[[Target], None]) -> Callable[[Target], None]:
        CHECKS[function.__name__] = (function, frozenset(needs))
        return function

    return register


def scripted(**script: Any) -> dict[str, Any]:
    """Further fields of a body that tell the scripted engine what to do. Other engines never see them."""
    return {"x_scripted": script}


def same(got: object, expected: object) -> None:
    """Fail showing both: plain `assert` shows nothing without pytest."""
    if got != expected:
        raise AssertionError(f"got {got!r}, expected {expected!r}")


def holds(condition: object, told: object = "") -> None:
    if not condition:
        raise AssertionError(f"does not hold: {told!r}")


def cool(target: Target) -> None:
    """Put the cold model's engine away, so that the next request wakes it."""
    address = f"{target.url}/models/{COLD}/unload"
    key = {"Authorization": f"Bearer {target.api_key}"}
    with urllib.request.urlopen(urllib.request.Request(address, method="POST", headers=key), timeout=20) as answer:
        holds(answer.status < 300, answer.status)


def freed_within(seconds: float, ask: Callable[[], object], busy: type[Exception]) -> None:
    """Return once `ask` is answered by a model with a single place: whoever had that place has been let go of.

    While the place is taken `ask` raises `busy`, or waits. The raw sockets of the suite measure how soon it is free.
    """
    began = time.perf_counter()
    while True:
        try:
            holds(ask())
            break
        except busy:
            holds(time.perf_counter() - began < seconds, "the engine is still at work")
    holds(time.perf_counter() - began < seconds, "the engine was at work for long")


def _run(name: str, target: Target) -> dict[str, Any]:
    function, needs = CHECKS[name]
    if missing := needs - target.features:
        return {"outcome": "skipped", "detail": f"the target has no {', '.join(sorted(missing))}"}
    signal.alarm(LONGEST_CHECK)
    try:
        function(target)
    except Skip as reason:
        return {"outcome": "skipped", "detail": str(reason)}
    except BaseException:
        return {"outcome": "failed", "detail": traceback.format_exc(limit=-6, chain=False)}
    finally:
        signal.alarm(0)
    return {"outcome": "passed", "detail": ""}


def _too_long(*_: object) -> None:
    raise TimeoutError(f"the check took over {LONGEST_CHECK} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--package", required=True)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("scripts", nargs="+")
    options = parser.parse_args()
    target = Target.from_environment()
    signal.signal(signal.SIGALRM, _too_long)
    for script in options.scripts:
        importlib.import_module(script)
    with options.results.open("a", encoding="utf-8", buffering=1) as results:
        version = importlib.metadata.version(options.package)
        results.write(json.dumps({"package": options.package, "version": version}) + "\n")
        for name in CHECKS:
            if options.only is None or name in options.only:
                began = time.perf_counter()
                outcome = _run(name, target)
                told = {"check": name, **outcome, "seconds": round(time.perf_counter() - began, 3)}
                results.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    # Under its importable name, so that the scripts' `import harness` finds this registry and not a second one.
    import harness

    harness.main()
