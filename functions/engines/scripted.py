"""An engine without a model: deterministic tokens, timed, failing and crashing as it is told, that counts its work.

It speaks as SGLang does on the wire where a relay can tell. A request scripts itself with the field `x_scripted` of
its body (see `script.Script`), which the relay forwards to this kind of engine; the command line sets the default.
`GET /scripted/state` tells what it is working on and how each request ended, so that tests see an abort arrive.

    python -m functions.engines.scripted --port 8000 --script '{"ttft": 0.2, "gap": 0.02}'
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from functions.boot import Boot
from functions.engines.base import EngineSleepError, smallest_request
from functions.engines.process import ServerProcess
from functions.engines.script import Script, ScriptError
from functions.engines.scripted_server import Options, ScriptedServer
from functions.engines.surroundings import handed_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from functions.boot import Phase
    from functions.engines.base import Address
    from infra.settings import EngineKind

log = logging.getLogger(__name__)

CRASH_EXIT_CODE = 70
MEMORY_SECONDS = 10.0
PARENT_POLL_SECONDS = 0.5
API_KEY_VARIABLE = "SCRIPTED_API_KEY"
LOADS, WARMS_UP = "loads its script", "has loaded its script"
LANDMARKS: Mapping[str, Phase] = {LOADS: "weights", WARMS_UP: "warm_up"}


class ScriptedEngine:
    """The scripted engine in a process of its own. Implements `Engine`; raises what it documents."""

    def __init__(
        self, *, address: Address, model_name: str = "scripted", arguments: Sequence[str] = (),
        api_key: str | None = None, startup_timeout: float = 30.0, boot: Boot | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`arguments`: as on the command line, without those that name the address and the model."""
        self._address = address
        self._model_name = model_name
        self._startup_timeout = startup_timeout
        self.boot = boot or Boot()
        command = [
            sys.executable, "-m", "functions.engines.scripted", "--host", address.host, "--port", str(address.port),
            "--model-name", model_name, "--exit-with-parent", *arguments,
        ]  # fmt: skip
        variables = {**handed_on(os.environ), **(environment or {})}
        variables.pop(API_KEY_VARIABLE, None)
        if api_key is not None:
            variables[API_KEY_VARIABLE] = api_key
        self._process = ServerProcess(
            name=f"scripted engine ({model_name})", command=command, environment=variables, address=address,
            headers={"authorization": f"Bearer {api_key}"} if api_key else None, boot=self.boot, landmarks=LANDMARKS,
        )  # fmt: skip

    @property
    def kind(self) -> EngineKind:
        return "scripted"

    @property
    def address(self) -> Address:
        return self._address

    @property
    def can_sleep(self) -> bool:
        return True

    def start(self) -> None:
        self._process.start(self._startup_timeout)

    def healthy(self, timeout: float = 2.0) -> bool:
        return self._process.healthy(timeout)

    def answers(self, timeout: float) -> bool | None:
        return self._process.answers(*smallest_request(self._model_name, embedding=False), timeout)

    def wait(self) -> None:
        self._process.wait()

    def sleep(self) -> None:
        self._memory("release")

    def wake(self) -> None:
        self._memory("resume")

    def stop(self, *, at_once: bool = False) -> None:
        self._process.stop(at_once=at_once)

    def _memory(self, verb: str) -> None:
        try:
            self._process.request("POST", f"/{verb}_memory_occupation", timeout=MEMORY_SECONDS).close()
        except OSError as error:
            raise EngineSleepError(f"the scripted engine did not {verb} its memory: {error}") from None


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m functions.engines.scripted", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model-name", default="scripted")
    parser.add_argument("--script", default="{}", help="JSON object: the default of every request's x_scripted")
    parser.add_argument("--max-running", type=int, help="answer 503 (queue full) above this many requests at once")
    parser.add_argument("--boot-seconds", type=float, default=0.0, help="take this long before listening")
    parser.add_argument("--start-error", help="fail to start, with these last words")
    parser.add_argument(
        "--compile", metavar="NAME", help="have a file of that name in $SGLANG_CACHE_DIR, as a compiler would"
    )
    parser.add_argument("--deaf-to-wake", action="store_true", help="once asleep, refuse to wake")
    parser.add_argument("--deaf-to-close", action="store_true", help="go on when a caller leaves: only an abort helps")
    parser.add_argument("--prefix-cache", action="store_true", help="usage tells what is known of earlier prompts")
    parser.add_argument("--exit-with-parent", action="store_true", help="exit when the parent process is gone")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_arguments(arguments)
    logging.basicConfig(level="INFO", format="%(levelname)s %(message)s")
    if options.exit_with_parent:
        threading.Thread(target=_exit_with, args=(os.getppid(),), name="parent-watch", daemon=True).start()
    try:
        script = Script().with_changes(json.loads(options.script))
    except (ScriptError, ValueError) as error:
        sys.exit(f"--script: {error}")
    if options.compile:
        _compile(options.compile)
    server = ScriptedServer(
        Options(
            model_name=options.model_name,
            script=script,
            max_running=options.max_running,
            deaf_to_close=options.deaf_to_close,
            deaf_to_wake=options.deaf_to_wake,
            prefix_cache=options.prefix_cache,
            api_key=os.environ.get(API_KEY_VARIABLE),
        ),
        crash=_crash,
    )
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(_serve(server, options))


def _compile(name: str) -> None:
    """Have such a file, as a compiler would, and say whether it was there."""
    file = Path(os.environ["SGLANG_CACHE_DIR"]) / name
    if file.exists():
        log.info("found what was compiled: %s", name)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("machine code")
    log.info("compiled %s", name)


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed (the web container's packages), asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(server: ScriptedServer, options: argparse.Namespace) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    # Ctrl-C reaches the whole group: who started this one lets its answers end, and ends it then.
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if options.exit_with_parent else stopping.set)
    log.info("the scripted engine %s", LOADS)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), options.boot_seconds)
        return
    log.info("the scripted engine %s", WARMS_UP)
    if options.start_error:
        sys.exit(options.start_error)
    try:
        await server.start(options.host, options.port)
    except OSError as error:
        sys.exit(f"cannot listen on {options.host}:{options.port}: {error}")
    try:
        await stopping.wait()
    finally:
        await server.stop()


def _crash() -> NoReturn:
    os._exit(CRASH_EXIT_CODE)


def _exit_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
