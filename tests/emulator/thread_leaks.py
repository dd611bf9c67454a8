"""What emulators with thread containers leave in their process: `python -m tests.emulator.thread_leaks ROUNDS`.

Each round starts one, deploys a small app from here, calls it and stops. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import json
import logging
import os
import pdb
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import modal

from emulator.emulator import Emulator
from tests.parity.kit import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

app = modal.App("leaks", include_source=False)


@app.function(env={"COLOUR": "red"})
def answers(x: int) -> int:
    print("answering")
    return x + 1


@app.cls()
class Greeter:
    @modal.enter()
    def begin(self) -> None:
        self.greeting = "hello"

    @modal.method()
    async def greet(self, name: str) -> str:
        await asyncio.to_thread(time.sleep, 0)
        return f"{self.greeting} {name}"


def process_state() -> dict[str, Any]:
    """What an emulator exchanges, or might leave, by name."""
    loop_policy: Any = asyncio.events.BaseDefaultEventLoopPolicy
    environ: Any = os.environ
    redirect: Any = contextlib._RedirectStream
    modal_state = state_of_the_client()
    return {
        "environment": dict(environ._data),
        "table of the environment": id(environ._data),
        "modules": id(sys.modules),
        "names of modules": frozenset(name for name in sys.modules if not name.startswith("modal")),
        "sys.path": tuple(sys.path),
        "meta_path": tuple(sys.meta_path),
        "stdout": id(sys.stdout),
        "stderr": id(sys.stderr),
        "breakpointhook": sys.breakpointhook,
        "functions": tuple(
            map(
                id,
                (
                    os.kill,
                    os._exit,
                    os.putenv,
                    os.unsetenv,
                    os.system,
                    signal.signal,
                    signal.getsignal,
                    signal.raise_signal,
                    time.sleep,
                    subprocess.Popen.__init__,
                    threading.Thread.start,
                    threading.Condition.wait,
                    concurrent.futures.ThreadPoolExecutor.submit,
                    concurrent.futures.ThreadPoolExecutor.__init__,
                    loop_policy.new_event_loop,
                    redirect.__enter__,
                    pdb.Pdb.__init__,
                    redirect.__exit__,
                ),
            )
        ),
        "signal handlers": tuple(repr(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)),
        "warnings": len(warnings.filters),
        "log handlers": tuple(
            id(getattr(handler, "stream", handler))
            for name in (None, "asyncio", "modal-client", "modal-utils", "emulator.containers")
            for handler in logging.getLogger(name).handlers
        ),
        **modal_state,
    }


def state_of_the_client() -> dict[str, Any]:
    from modal import _container_entrypoint, client
    from modal import app as apps
    from modal._object import _Object
    from modal._runtime import container_io_manager, execution_context, task_lifecycle_manager, user_code_imports
    from modal._utils.async_utils import synchronizer

    return {
        "client's names": (
            vars(_Object).get("__getattribute__"),
            vars(_Object).get("__setattr__"),
            container_io_manager._ContainerIOManager._singleton,
            task_lifecycle_manager._TaskLifecycleManager._singleton,
            client._Client._client_from_env,
            repr(vars(client._Client)["from_env"]),
            apps._App._container_app,
            type(apps._App._all_apps),
            execution_context._in_import_context,
            user_code_imports.call_lifecycle_functions,
            _container_entrypoint.DaemonizedThreadPool.__exit__,
        ),
        "hydrated": synchronizer._translate_in(answers)._is_hydrated,
    }


def one_round() -> dict[str, float]:
    moments = [time.perf_counter()]
    step: Callable[[], None] = lambda: moments.append(time.perf_counter())  # noqa: E731
    with Emulator(containers="thread") as emulator:
        step()
        client = client_of({**os.environ, **emulator.environment})
        try:
            app.deploy(client=client)
            step()
            assert answers.remote(1) == 2
            step()
            assert Greeter().greet.remote("you") == "hello you"
        finally:
            client.close()
        step()
    step()
    steps = zip(("start", "deploy", "first call", "class", "stop"), pairwise(moments), strict=True)
    return {name: (ends - begins) * 1e3 for name, (begins, ends) in steps}


def figures() -> dict[str, float]:
    gc.collect()
    return {
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "children": len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()),
        "resident MB": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def main() -> None:
    rounds = int(sys.argv[1])
    warm = min(rounds // 2, 40)
    times = [one_round()]  # which imports what is imported late
    before, at_first = process_state(), figures()
    for number in range(1, rounds):
        times.append(one_round())
        if number == warm:
            at_first = figures()
    after, at_last = process_state(), figures()
    changed = sorted(name for name in before if before[name] != after[name])
    medians = {name: round(statistics.median(each[name] for each in times[1:]), 1) for name in times[0]}
    print(json.dumps({"changed": changed, "first": at_first, "last": at_last, "medians, ms": medians}))


if __name__ == "__main__":
    main()
