"""What of an emulator outlives it: its state directory, claimed and read when it starts, written before each answer.

Imported only where there is such a directory.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from grpclib import GRPCError

from emulator.aws import AWS_PORT
from emulator.storage.claim import Claim
from emulator.storage.keeper import Keeper
from emulator.storage.kept_aws import KeptAws
from emulator.storage.sqlite_store import SqliteStore
from emulator.storage.store import NotKeptError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.ingress.ingress import Ingress
    from emulator.protocol.publishing import Publisher
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import App, FunctionRecord, State

FILE = "state.sqlite3"
PASSING = frozenset(
    (
        *(
            "AppHeartbeat",
            "BlobCreate",
            "BlobGet",
            "ContainerHeartbeat",
            "ContainerHello",
            "ContainerServerLifecycleReady",
        ),
        *("DictHeartbeat", "FunctionCallCancel", "FunctionCallPutDataOut", "FunctionFinishInputs"),
        *("FunctionGetCurrentStats", "FunctionGetDynamicConcurrency", "FunctionGetInputs", "FunctionGetOutputs"),
        *("FunctionMap", "FunctionPutInputs", "FunctionPutOutputs", "FunctionRetryInputs"),
        *("ContainerServerLifecycleReady", "MountBatchedCheckExistence", "MountPutFile", "QueueHeartbeat"),
        *("VolumeHeartbeat",),
    )
)
"""RPCs that come often and change nothing that is kept: calls end with the emulator."""
ROWS_ALONE = frozenset(
    (
        *("DictClear", "DictContains", "DictContents", "DictGet", "DictLen", "DictPop", "DictUpdate"),
        *("QueueClear", "QueueGet", "QueueLen", "QueueNextItems", "QueuePut"),
    )
)
"""RPCs that change nothing but what they put into the store themselves."""


class Kept:
    """Opened before anything else of the emulator; raises `StateError` or `OSError`."""

    def __init__(self, folder: Path, *, state: State, clock: Clock, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._clock = clock
        self._closed = False
        self._say = say
        self._claim = Claim(folder)
        try:
            self.store = SqliteStore(folder / FILE)
            self._keeper = Keeper(self.store, state, folder)
            self._keeper.load(clock.time())
        except BaseException:
            self._claim.release()
            raise
        self._state = state
        self._ports = {label: int(port) for label, port in self.store.rows("ports")}
        self._web = self._read_web()
        self._web_for = ""
        self._ingress: Ingress | None = None
        self._aws_port = 0

    def aws(self) -> KeptAws:
        """What is kept of S3 and DynamoDB. Raises `StateError`."""
        return KeptAws(self._folder, self._say)

    def keep(self, rpc: str = "") -> None:
        """Write what an RPC has changed. Raises `NotKeptError`; the next one tries again."""
        if rpc in PASSING:
            return
        if rpc not in ROWS_ALONE:
            self._keeper.sync()
            self._sync_ports()
        self.store.commit()

    def close(self) -> None:
        """Write the rest, and let the directory go. Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        try:
            self.keep()
            self.store.close()
        finally:
            self._claim.release()

    # Addresses

    @property
    def ports(self) -> Mapping[str, int]:
        """Where it was reached last time, by label."""
        return self._ports

    def watch(self, ingress: Ingress, *, aws_port: int, web_for: str) -> None:
        """Keep the ports from now on. `web_for`: what the ingress's `web_port` is for."""
        self._ingress, self._web_for = ingress, web_for
        self._aws_port = aws_port

    def _sync_ports(self) -> None:
        if self._ingress is None:
            return
        ports = {**self._ingress.ports, AWS_PORT: self._aws_port}
        for label, port in ports.items():
            if self._ports.get(label) != port:
                self.store.put("ports", label, str(port).encode())
        self._ports |= ports
        if (key := self._ingress.web_key) is not None and (key, self._web_for) != self._web:
            self._web = key, self._web_for
            self.store.put("web", "port", "\n".join(self._web).encode())

    def _read_web(self) -> tuple[str, str]:
        key, _, purpose = (self.store.get("web", "port") or b"").decode().partition("\n")
        return key, purpose

    # Apps

    async def restore(self, publisher: Publisher, scheduler: Scheduler) -> None:
        """Put in force again what was deployed. What can not be is said, and stays as it is kept."""
        assert self._ingress is not None
        scheduler.timers.ran = self._ran
        label, purpose = self._web
        with self._ingress.web_port_for(label if purpose == self._web_for else None):
            await self._restore(publisher, scheduler)

    async def _restore(self, publisher: Publisher, scheduler: Scheduler) -> None:
        deployed = [app for app in self._state.apps.values() if app.live and app.version in app.versions]
        for app in sorted(deployed, key=lambda app: app.deployed_at):
            version = app.versions[app.version]
            try:
                async with app.publishing:
                    await publisher.bring_back(app, version)
                    await publisher.put_in_force(app, dict(version.function_ids), dict(version.class_ids))
            except (GRPCError, OSError, KeyError, ValueError) as error:
                self._say(f"the app {app.name} could not be brought back: {error!r}")
                continue
            for function_id in app.function_ids.values():
                record = self._state.functions[function_id]
                self._resume(app, record, scheduler)

    def _resume(self, app: App, record: FunctionRecord, scheduler: Scheduler) -> None:
        record.overrides.CopyFrom(self._keeper.overrides(record.function_id))
        if record.overrides.ByteSize() and (pool := scheduler.pool(record.function_id)) is not None:
            pool.touch()
        ran = float(self.store.get("runs", record.function_id) or 0.0)
        missed = scheduler.timers.missed(record.function_id, ran=ran)
        if missed is not None:
            at = datetime.fromtimestamp(missed).astimezone()
            self._say(f"{record.tag} of {app.name} was due at {at:%Y-%m-%d %H:%M:%S %Z}, when no emulator ran: not run")
            self._note_run(record, self._clock.time())  # it is said once

    def _note_run(self, record: FunctionRecord, at: float) -> None:
        self.store.put("runs", record.function_id, repr(at).encode())

    def _ran(self, record: FunctionRecord, at: float) -> None:
        self._note_run(record, at)
        try:
            self.store.commit()
        except NotKeptError as error:
            self._say(f"the run of {record.tag}: {error}")
