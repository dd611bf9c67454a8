"""`emulator up`: an emulator, an app deployed to it, and its logs, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from emulator import watch
from emulator.child import Children, environment_for
from emulator.clock import RealClock
from emulator.emulator import Emulator
from emulator.ingress.ingress import PortTaken
from emulator.logs import ConsoleSink, LogLine
from emulator.problem import Problem
from emulator.ready import wait_until_ready
from emulator.record import hold
from emulator.scheduler.leaving import EXIT_GRACE
from emulator.storage.store import StateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.containers import Kind
    from emulator.emulator import ScheduledRun, WebAddress

FORCED = 130
"""Exit status after a second Ctrl-C, which kills what the first has asked to leave. A third waits for nothing."""


@dataclass(frozen=True)
class Up:
    """What `emulator up` was asked for."""

    app_ref: str
    port: int
    before: tuple[str, ...]
    state: Path
    containers: Kind
    reload: bool
    ready_path: str | None
    run_commands: bool = False


def run(options: Up) -> int:
    """Run until a signal says stop; the exit status. Raises `Problem`."""
    if watch.is_file(options.app_ref) and not Path(options.app_ref.partition("::")[0]).is_file():
        raise Problem(f"{options.app_ref}: no such file; name the app's: emulator up path/to/app.py", status=2)
    return asyncio.run(_run_until_stopped(options))


async def _run_until_stopped(options: Up) -> int:
    stop, session = asyncio.Event(), Session(options)
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if session.hurried:
            os._exit(FORCED)
        if stop.is_set():
            session.hurry()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    running = asyncio.create_task(session.run())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if stop.is_set():
        session.say("stopping")
        running.cancel()
    await asyncio.wait((running,))
    if not running.cancelled() and (error := running.exception()) is not None:
        raise error
    return FORCED if session.hurried else 0


class Session:
    """One run of `emulator up`."""

    def __init__(self, options: Up) -> None:
        self._options = options
        self._clock = RealClock()
        self.children = Children(self._clock)
        self._log = ConsoleSink(sys.stderr)
        self._deploying = asyncio.Lock()
        self._running: Emulator | None = None
        self.hurried = False

    def hurry(self) -> None:
        """Wait no longer for anything that is to end."""
        self.hurried = True
        self.say("stopping at once")
        self.children.kill()
        if self._running is not None:
            self._running.hurry()

    async def run(self) -> None:
        """Start everything, then deploy again on changes. Ends by being cancelled. Raises `Problem`."""
        options = self._options
        with hold(options.state) as record:
            async with self._emulator() as emulator:
                record(emulator.environment)
                environment = environment_for(emulator.environment)
                for command in options.before:
                    await self._before(command, environment)
                changes = asyncio.create_task(self._reload(emulator, environment)) if options.reload else None
                try:
                    await self._first(emulator, environment)
                    if changes is not None:
                        await changes
                    await asyncio.Event().wait()
                finally:
                    if changes is not None:
                        changes.cancel()
                        await asyncio.wait((changes,))

    @asynccontextmanager
    async def _emulator(self) -> AsyncIterator[Emulator]:
        options = self._options
        try:
            emulator = Emulator(
                state_directory=options.state,
                containers=options.containers,
                web_port=options.port,
                web_for=options.app_ref,
                log=self._log,
                run_commands=options.run_commands,
                exit_grace=EXIT_GRACE,
            )
        except ValueError as error:
            raise Problem(str(error)) from error
        starting = asyncio.ensure_future(asyncio.to_thread(self._start, emulator))
        try:
            # Shielded: an emulator that was half started would leave things behind.
            await asyncio.shield(starting)
            self._running = emulator
            yield emulator
        finally:
            await asyncio.wait((starting,))
            await asyncio.to_thread(emulator.stop)

    def _start(self, emulator: Emulator) -> None:
        try:
            emulator.start()
        except PortTaken as error:
            raise Problem(f"{error}: stop what listens there, or choose another with --port") from error
        except StateError as error:
            raise Problem(str(error)) from error
        except (OSError, ValueError) as error:
            raise Problem(f"the emulator can not start: {error}") from error

    async def _before(self, command: str, environment: dict[str, str]) -> None:
        self.say(f"running {command}")
        status = await self.children.run(command, environment=environment)
        if status:
            raise Problem(f"`{command}` failed with exit status {status}: nothing was deployed")

    async def _first(self, emulator: Emulator, environment: dict[str, str]) -> None:
        status = await self._deploy(environment)
        if status:
            raise Problem(f"`modal deploy {self._options.app_ref}` failed with exit status {status}")
        addresses = emulator.addresses()
        main = main_address(addresses, port=self._options.port)
        if main is not None:
            await wait_until_ready(main.url, path=self._options.ready_path, clock=self._clock, say=self.say)
        for line in banner(addresses, emulator.schedules(), main.url if main is not None else emulator.server_url):
            print(line, flush=True)

    async def _reload(self, emulator: Emulator, environment: dict[str, str]) -> None:
        cwd = Path.cwd()
        root = watch.source_directory(self._options.app_ref, cwd)
        try:
            async for paths in watch.changes(root, self.say):
                await self._again(paths, cwd, emulator, environment)
        except (OSError, RuntimeError) as error:
            self.say(f"{root} can not be watched, so changes are not deployed: {error}")

    async def _again(self, paths: list[Path], cwd: Path, emulator: Emulator, environment: dict[str, str]) -> None:
        names = _relative(paths, cwd)
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        self.say(f"{names[0]}{more} changed: deploying again")
        status = await self._deploy(environment)
        if status:
            self.say(f"deploying failed with exit status {status}: what was deployed before keeps running")
        else:
            main = main_address(emulator.addresses(), port=self._options.port)
            self.say(f"deployed again: {main.url if main is not None else emulator.server_url}")

    async def _deploy(self, environment: dict[str, str]) -> int:
        ref = self._options.app_ref
        named = (ref,) if watch.is_file(ref) else ("-m", ref)
        command = (sys.executable, "-m", "modal", "deploy", *named)
        async with self._deploying:
            return await self.children.run(command, environment=environment)

    def say(self, text: str) -> None:
        self._log(LogLine(text, "emulator"))


def _relative(paths: list[Path], cwd: Path) -> list[str]:
    return [os.path.relpath(path, cwd) for path in paths]


def main_address(addresses: list[WebAddress], *, port: int) -> WebAddress | None:
    """What an app is reached by: what got `port`, else the first web function, else the first Server, one that takes
    anybody before one that asks for credentials."""
    return min(addresses, key=lambda at: (not at.url.endswith(f":{port}"), not at.public, at.is_server), default=None)


def banner(addresses: list[WebAddress], schedules: list[ScheduledRun], ready: str) -> list[str]:
    """What is printed when an app is up. The last line is for machines and stays as it is."""
    rows = [
        (
            "server" if address.is_server else "web",
            ".".join(filter(None, (address.function, address.method))),
            address.url,
        )
        for address in addresses
    ]
    rows += [("runs", run.function, f"{run.schedule}{_next(run)}") for run in schedules]
    width = max((len(name) for _, name, _ in rows), default=0)
    return [*(f"{kind:<6}  {name:<{width}}  {what}" for kind, name, what in rows), f"Ready: {ready}"]


def _next(run: ScheduledRun) -> str:
    if run.next_at is None:
        return ", never again"
    return f", next at {datetime.fromtimestamp(run.next_at).astimezone():%Y-%m-%d %H:%M:%S %Z}"
