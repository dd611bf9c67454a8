"""What an emulator whose containers are threads costs, in the one process that a test has: emulator, client and app.

    python -m tests.benchmarks.emulator_threads SCALE

Prints one line of JSON: figures by name, medians. `SCALE` makes every count smaller.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.emulator import Emulator
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, COLD, CALLS, ITEMS, INPUTS, IDLE = 20, 20, 400, 4_000, 2_000, 50


def small_app() -> Any:
    """The benchmarks' app as a module of its own: as a part of `tests` it would bring all of them along."""
    spec = importlib.util.spec_from_file_location("emulator_app", Path(__file__).with_name("emulator_app.py"))
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["emulator_app"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    scale = float(sys.argv[1])
    emulator_app = small_app()
    began = time.perf_counter()
    with Emulator(containers="thread"):  # imports the client's runtime
        first = time.perf_counter() - began
    starts, deploys = [], []
    for _ in range(count(ROUNDS, scale)):
        began = time.perf_counter()
        with Emulator(containers="thread") as emulator:
            starts.append(time.perf_counter() - began)
            client = client_of({**os.environ, **emulator.environment})
            deploys.append(timed(lambda client=client: emulator_app.app.deploy(client=client)))
            client.close()
    found = {
        "`Emulator()` to ready beyond imports, ms": first * 1e3,
        "`Emulator()` again, ms": statistics.median(starts) * 1e3,
        "deploying a small app from Python, ms": statistics.median(deploys) * 1e3,
    }
    with Emulator(containers="thread") as emulator:
        client = client_of({**os.environ, **emulator.environment})
        emulator_app.app.deploy(client=client)
        found |= calls(emulator, emulator_app, scale)
        client.close()
    print(json.dumps(found))


def calls(emulator: Emulator, emulator_app: Any, scale: float) -> dict[str, float]:
    nothing, items, mapped = emulator_app.nothing, emulator_app.items, emulator_app.mapped
    nothing.remote()
    cold = []
    for _ in range(count(COLD, scale)):
        for each in emulator.containers():
            emulator.kill_container(each.task_id)
        emulator.wait(lambda: not emulator.containers())
        cold.append(timed(nothing.remote))
    for _ in range(20):
        nothing.remote()
    warm = [timed(nothing.remote) for _ in range(count(CALLS, scale))]
    list(items.remote_gen(10))
    length, inputs = count(ITEMS, scale), count(INPUTS, scale)
    rates = [length / timed(lambda: list(items.remote_gen(length))) for _ in range(3)]
    list(mapped.map(range(10)))
    spent = timed(lambda: list(mapped.map(range(inputs), order_outputs=False)))
    before = resident()
    idle = count(IDLE, scale)
    mapped.autoscaler.update(min_containers=idle, max_containers=idle)
    emulator.wait(lambda: len(emulator.containers(function="mapped")) == idle, within=60)
    emulator.wait(lambda: all(each.state == "ready" for each in emulator.containers(function="mapped")), within=60)
    memory = (resident() - before) / idle
    return {
        "cold start to first result, ms": statistics.median(cold) * 1e3,
        "private memory a container, MB": max(0.0, memory) / 1e6,
        "warm .remote(), p50, ms": statistics.median(warm) * 1e3,
        "generator, items/s": statistics.median(rates),
        "`.map`, inputs/s": inputs / spent,
    }


def timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def count(number: int, scale: float) -> int:
    return max(2, round(number * scale))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main()
