"""An emulator in a process of its own, which tells what it knows of itself: for its figures, apart from its clients'.

    python -m tests.benchmarks.emulator_served KIND

Writes a line of JSON when it is up, and one for each word that it reads: `containers`, `forks`, `kill`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.containers.supervised import Ends


def main() -> None:
    imported = time.perf_counter()
    from emulator.containers.process import ProcessSpawner
    from emulator.containers.zygote import ZygoteSpawner
    from emulator.emulator import Emulator
    from emulator.protocol.containers import ContainerHandlers

    begun: dict[str, float] = {}
    forks: list[float] = []
    for spawner in (ZygoteSpawner, ProcessSpawner):
        spawn = spawner.spawn

        async def timed(self: Any, launch: Path, ends: Ends, *rest: Any, spawn: Any = spawn) -> None:
            begun[launch.parent.name] = time.perf_counter()
            await spawn(self, launch, ends, *rest)

        spawner.spawn = timed  # type: ignore[assignment,method-assign]
    hello = ContainerHandlers.ContainerHello

    async def first_call(self: Any, request: Any, caller: Any) -> Any:
        if (began := begun.pop(caller.task_id, None)) is not None:
            forks.append(time.perf_counter() - began)
        return await hello(self, request, caller)

    ContainerHandlers.ContainerHello = first_call  # type: ignore[method-assign]
    began = time.perf_counter()
    with Emulator(containers=sys.argv[1]) as emulator:  # type: ignore[arg-type]
        ready = time.perf_counter()
        tell({"environment": emulator.environment, "imports": began - imported, "start": ready - began})
        for line in sys.stdin:
            word = line.strip()
            if word == "containers":
                tell([each.pid for each in emulator.containers() if each.state == "ready"])
            elif word == "forks":
                tell(forks)
                forks.clear()
            elif word == "kill":
                for each in emulator.containers():
                    emulator.kill_container(each.task_id)
                emulator.wait(lambda: not emulator.containers())
                tell(None)


def tell(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
