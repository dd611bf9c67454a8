"""`Emulator(...)`: a local Modal as a context manager, for synchronous and asynchronous code alike."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from emulator.clock import RealClock
from emulator.core import Core
from emulator.faults.faults import Faults
from emulator.options import DEFAULT_EXIT_GRACE, Options
from emulator.scheduler.schedules import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from types import TracebackType

    from emulator.clock import Clock
    from emulator.containers import Kind
    from emulator.logs import LogSink
    from emulator.scheduler.slot import State as ContainerState

POLL = 0.01


@dataclass(frozen=True)
class ContainerInfo:
    """A container as it is at this moment."""

    task_id: str
    app: str
    function: str
    state: ContainerState
    active: int
    """Inputs or requests that it works on."""
    pid: int | None


@dataclass(frozen=True)
class ScheduledRun:
    """A function of a deployed app that runs by itself."""

    app: str
    function: str
    schedule: str
    """As it is written in Python."""
    next_at: float | None
    """Seconds since the epoch."""


@dataclass(frozen=True)
class WebAddress:
    """Where a web function or a Server of a live app answers."""

    app: str
    function: str
    method: str
    """Of a class; empty for functions and Servers."""
    url: str
    is_server: bool
    public: bool = True
    """Not a Server that asks for credentials."""


class Emulator:
    """Control plane, scheduler, ingress and containers in one process.

    `with Emulator() as emulator:` runs it in a thread of its own, so that the code inside may block; `async with` does
    the same without blocking the caller's loop. Everything that it started is gone when the block ends. `log` gets
    every `LogLine`, from the emulator's thread. With a `state_directory` it goes on from what an earlier one has left
    there (docs/emulator.md has what that is), and no other may use it meanwhile.
    """

    def __init__(
        self,
        *,
        state_directory: Path | None = None,
        clock: Clock | None = None,
        containers: Kind = "auto",
        port: int = 0,
        web_port: int = 0,
        web_for: str = "",
        ingress_port: int = 0,
        aws_port: int = 0,
        log: LogSink | None = None,
        max_starting: int = 2,
        max_containers: int = 16,
        run_commands: bool = False,
        exit_grace: float = DEFAULT_EXIT_GRACE,
    ) -> None:
        self._options = Options(
            state_directory=state_directory,
            clock=clock or RealClock(),
            containers=containers,
            port=port,
            web_port=web_port,
            web_for=web_for,
            ingress_port=ingress_port,
            aws_port=aws_port,
            log=log,
            max_starting=max_starting,
            max_containers=max_containers,
            run_commands=run_commands,
            exit_grace=exit_grace,
        )
        self._core: Core | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    # Life

    def start(self) -> None:
        """Start it.

        Raises `OSError` (`PortTaken` for the ingress's) when a port that was asked for is in use, and `StateError` for
        a state directory that another emulator uses (`InUseError`), or whose content can not be read.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="emulator", daemon=True)
        self._thread.start()
        try:
            self._run(self._start())
        except BaseException:
            self._end_thread()
            raise

    async def _start(self) -> None:
        core = Core(self._options)
        await core.start()
        self._core = core

    def stop(self) -> None:
        """End every container and close everything. Harmless when it does not run.

        Containers run their exit handlers, for which they have `exit_grace` seconds.
        """
        if self._thread is None:
            return
        try:
            if self._core is not None:
                self._run(self._core.stop())
        finally:
            self._core = None
            self._end_thread()

    def hurry(self) -> None:
        """Have a `stop` that is under way, or comes, kill containers at once. From any thread, or a signal handler."""
        if self._core is not None and self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: it has stopped
                self._loop.call_soon_threadsafe(self._core.hurry)

    def _end_thread(self) -> None:
        loop, thread = self._loop, self._thread
        self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    @property
    def options(self) -> Options:
        """As it was made."""
        return self._options

    @property
    def clock(self) -> Clock:
        """Its time: the machine's, or a `VirtualClock`."""
        return self._options.clock

    @property
    def faults(self) -> Faults:
        """To have things go wrong in it."""
        return Faults(self, self.core.plans)

    @property
    def core(self) -> Core:
        """Its parts, which belong to its own loop. Raises `RuntimeError` when it does not run."""
        if self._core is None:
            raise RuntimeError("the emulator is not running: use it in a `with` block")
        return self._core

    # What others need to know

    @property
    def server_url(self) -> str:
        """Of the control plane: what `MODAL_SERVER_URL` has to be."""
        return self.core.server_url

    @property
    def environment(self) -> dict[str, str]:
        """Variables under which the `modal` client talks to this emulator and boto3 to its AWS."""
        return self.core.client_environment()

    def web_url(self, app: str, function: str, *, method: str = "", environment: str = "main") -> str:
        """Address of a deployed web function or Server; for a class, of the named method (or of its only one).

        Raises `LookupError` when there is no such thing.
        """
        found = self.core.state.deployed(app, environment)
        if found is None:
            raise LookupError(f"no app named {app!r} is deployed")
        function_id = found.function_ids.get(function) or found.function_ids.get(f"{function}.*")
        if function_id is None:
            raise LookupError(f"app {app!r} has no function {function!r}: it has {sorted(found.function_ids)}")
        urls = self.core.state.functions[function_id].urls
        if method in urls:
            return urls[method]
        if not method and len(urls) == 1:
            return next(iter(urls.values()))
        raise LookupError(f"{function!r} of app {app!r} has no web address {method!r}: it has {sorted(urls)}")

    def addresses(self) -> list[WebAddress]:
        """Every web address of the apps that are live now, in the order in which they were deployed."""
        state = self.core.state
        return [
            WebAddress(
                app.name or app.description,
                tag.removesuffix(".*"),
                method,
                url,
                record.definition.is_server,
                public=not record.definition.is_server or record.definition.http_config.unauthenticated,
            )
            for app in list(state.apps.values())
            if app.live
            for tag, function_id in list(app.function_ids.items())
            for record in [state.functions[function_id]]
            for method, url in record.urls.items()
        ]

    def containers(self, *, app: str | None = None, function: str | None = None) -> list[ContainerInfo]:
        """Containers that are there now."""
        core = self.core
        found = []
        for pool, slot in core.scheduler.slots():
            record = pool.record
            name = core.state.apps[record.app_id].description
            tag = record.tag.removesuffix(".*")
            if app in (None, name) and function in (None, tag):
                pid = slot.container.pid if slot.container is not None else None
                found.append(ContainerInfo(slot.task_id, name, tag, slot.state, slot.active, pid))
        return found

    def schedules(self) -> list[ScheduledRun]:
        """The functions that run by themselves, in the order in which they were deployed."""
        core = self.core
        return [
            ScheduledRun(
                core.state.apps[timer.record.app_id].description,
                timer.record.tag,
                shown(timer.record.definition.schedule),
                timer.next_at,
            )
            for timer in core.scheduler.timers.all
        ]

    def kill_container(self, task_id: str) -> None:
        """SIGKILL a container, as a machine that fails would. Raises `LookupError` when it is not there."""

        async def kill() -> None:
            place = self.core.scheduler.find(task_id)
            if place is None:
                raise LookupError(f"no container {task_id}")
            place[0].kill(place[1])

        self._run(kill())

    def wait(self, condition: Callable[[], bool], *, within: float = 10.0) -> None:
        """Block until `condition()` holds. Raises `TimeoutError` after `within` seconds of real time."""
        asyncio.run(self.wait_until(condition, within=within))

    async def wait_until(self, condition: Callable[[], bool], *, within: float = 10.0) -> None:
        """Return once `condition()` holds. Raises `TimeoutError` after `within` seconds of real time."""
        clock = RealClock()
        deadline = clock.monotonic() + within
        while not condition():
            if clock.monotonic() > deadline:
                raise TimeoutError(f"the condition did not hold within {within} s; containers: {self.containers()}")
            await clock.sleep(POLL)
