"""The emulator's parts, made of its options and put together on one event loop."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.aws import AWS_PORT, Aws
from emulator.busy import Busy
from emulator.containers import choose_runtime
from emulator.containers.folder import RunFolder
from emulator.faults.plans import Plans
from emulator.faults.streams import planned_cut
from emulator.front import Admission, IngressFront
from emulator.imaging import Imaging
from emulator.ingress.ingress import Ingress
from emulator.launcher import ContainerLauncher
from emulator.logs import LogLine
from emulator.protocol.app_page import app_page
from emulator.protocol.apps import AppHandlers
from emulator.protocol.autoscaling import AutoscalerHandlers
from emulator.protocol.binding import Binder
from emulator.protocol.blob_http import BlobServer
from emulator.protocol.blobs import BlobHandlers
from emulator.protocol.calls import CallHandlers
from emulator.protocol.containers import ContainerHandlers
from emulator.protocol.deployments import DeploymentHandlers
from emulator.protocol.dicts import DictHandlers
from emulator.protocol.dispatch import Dispatcher, Token
from emulator.protocol.entries import container_output, container_state
from emulator.protocol.environments import EnvironmentHandlers
from emulator.protocol.flash import FlashHandlers
from emulator.protocol.functions import FunctionHandlers
from emulator.protocol.grpc import Traffic
from emulator.protocol.inspection import InspectionHandlers
from emulator.protocol.logs import LogHandlers
from emulator.protocol.mounts import MountHandlers
from emulator.protocol.named import environment_named
from emulator.protocol.proxy_tokens import ProxyTokenHandlers
from emulator.protocol.publishing import Publisher
from emulator.protocol.queues import QueueHandlers
from emulator.protocol.secrets import SecretHandlers
from emulator.protocol.server import ControlPlane, bind
from emulator.protocol.server_stats import ServerStatsHandlers
from emulator.protocol.stats import StatsHandlers
from emulator.protocol.tokens import ShortTokens
from emulator.protocol.volume_files import VolumeFileHandlers
from emulator.protocol.volume_views import VolumeViewHandlers
from emulator.protocol.volumes import VolumeHandlers
from emulator.protocol.workspace import WorkspaceHandlers
from emulator.sandboxing import Sandboxing
from emulator.scheduler.calls import Calls
from emulator.scheduler.history import History
from emulator.scheduler.limiter import StartLimiter
from emulator.scheduler.scheduler import Scheduler
from emulator.scheduler.services import Services
from emulator.signals import Signal
from emulator.state import State
from emulator.storage.content import BlobStore, ContentStore
from emulator.storage.store import NothingKept
from emulator.storage.views import Views
from emulator.storage.volume_store import VolumeStore

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from emulator.containers.base import Stream
    from emulator.kept import Kept
    from emulator.options import Options
    from emulator.scheduler.history import Task
    from emulator.storage.store import Store


class Parts:
    """Everything that is there between `start` and `stop` of a `Core`. Opens the control plane's port, and no other."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.state = State()
        self.changed = Signal()
        self._token = Token("ak-emulator", f"as-{secrets.token_urlsafe(24)}")
        self._run_folder = RunFolder()
        self._temporary = self._run_folder.path
        # Absolute: containers are set up by processes that run elsewhere.
        folder = (options.state_directory or self._temporary / "state").absolute()
        self._listener = self._bind(options.port)
        self.server_url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._kept: Kept | None = None
        try:
            if options.state_directory is not None:
                from emulator.kept import Kept

                self._kept = Kept(folder, state=self.state, clock=options.clock, say=self.say)
            self._assemble(folder)
        except BaseException:
            self._listener.close()
            self._run_folder.close()
            if self._kept is not None:
                self._kept.close()
            raise

    def _bind(self, port: int) -> socket.socket:
        try:
            return bind(port)
        except OSError:
            self._run_folder.close()
            raise

    def _assemble(self, folder: Path) -> None:
        options, clock, state, kept = self.options, self.options.clock, self.state, self._kept
        self.store: Store = kept.store if kept is not None else NothingKept()
        ports = kept.ports if kept is not None else {}
        self._blobs = BlobStore(folder / "blobs")
        content = ContentStore(folder / "content", self._blobs.scratch)
        volumes = VolumeStore(self._blobs.scratch, clock.monotonic)
        views = Views(clock, self.say)
        self._blob_server = BlobServer(self._blobs, volumes.transfers, partial(app_page, state))
        history = History(changed=self._on_task)
        self.calls = Calls(clock, discard_blob=self._blobs.discard, blob_size=self._blobs.size, done=history.done)
        sockets = self._temporary / "s"
        sockets.mkdir()
        self.plans = Plans(state.app_name)
        kept_aws = kept.aws() if kept is not None else None
        self.aws = Aws(port=options.aws_port, usual_port=ports.get(AWS_PORT, 0), plans=self.plans, kept=kept_aws)
        self._images = Imaging(state, content, options, self._temporary, self.say)
        self._traffic = Traffic()
        self._launcher = ContainerLauncher(
            state=state,
            clock=clock,
            content=content,
            volumes=volumes,
            views=views,
            sockets=sockets,
            environment=self._services_environment,
            shared_ports=self._shared_ports,
            python_of=self._images.python_of,
            traffic=self._traffic,
            changes=self._images.changes,
            server_url=self.server_url,
        )
        of_kind = {"clock": clock} if options.containers == "thread" else {}
        self._runtime = choose_runtime(options.containers, **of_kind)
        services = Services(
            clock=clock,
            calls=self.calls,
            limiter=StartLimiter(options.max_starting),
            launcher=self._launcher,
            runtime=self._runtime,
            on_output=self._on_output,
            say=self.say,
            changed=self.changed,
            machine_limit=options.max_containers,
            history=history,
            plans=self.plans,
        )
        self.scheduler = Scheduler(services)
        tokens = ShortTokens(clock.outside)
        sandboxing = self._sandboxing = Sandboxing(
            state=state,
            clock=clock,
            history=history,
            runtime=None if options.containers == "thread" else self._runtime,
            launcher=self._launcher,
            views=views,
            scheduler=self.scheduler,
            tokens=tokens,
            folder=self._temporary,
            max_starting=options.max_starting,
            traffic=self._traffic,
            log=options.log,
            say=self.say,
        )
        self.sandboxes = sandboxing.sandboxes
        self.ingress = Ingress(
            clock=clock,
            authorize=Admission(state, tokens),
            web_port=options.web_port,
            ports=ports,
            cut=lambda key: planned_cut(self.plans, state.functions.get(self._front.holder(key))),
        )
        binder = Binder(state, self.scheduler, self.say)
        self._front = IngressFront(
            self.ingress,
            calls=self.calls,
            scheduler=self.scheduler,
            read_blob=self._blobs.read,
            bind=binder.for_request,
        )
        publisher = self._publisher = Publisher(state, self.scheduler, self._front)
        self._apps = AppHandlers(
            state, clock, self.scheduler, self.sandboxes, self._front, publisher, self._blob_server.app_url, self.say
        )
        storage = (
            DictHandlers(state, clock, self.store),
            QueueHandlers(state, clock, self.store),
            SecretHandlers(state, clock),
            VolumeHandlers(state, clock, volumes, folder / "volumes"),
        )
        self.dispatcher = Dispatcher(
            [
                self._apps,
                AutoscalerHandlers(state, self.scheduler),
                BlobHandlers(self._blobs, self._blob_server.url),
                CallHandlers(state, self.calls, self.scheduler, self.plans),
                ContainerHandlers(self.calls, self.scheduler, self.sandboxes, clock),
                DeploymentHandlers(state, clock, publisher, self._blob_server.app_url),
                EnvironmentHandlers(state, clock, [self._apps, *(handlers.objects for handlers in storage)]),
                FlashHandlers(state, tokens),
                FunctionHandlers(state, self.scheduler, self._front, binder, self.say),
                self._images.handlers(self.scheduler, self.calls, self._launcher, self._runtime),
                InspectionHandlers(state, self.scheduler, history),
                LogHandlers(state, clock, history, self.sandboxes),
                MountHandlers(state, content, self._blobs),
                ProxyTokenHandlers(state, clock),
                ServerStatsHandlers(state, history),
                sandboxing.handlers,
                StatsHandlers(state, self.calls, self.scheduler, history),
                VolumeFileHandlers(state, volumes, content, self._blob_server.address),
                VolumeViewHandlers(state, views),
                WorkspaceHandlers(state, clock, self._token),
                *storage,
            ],
            self.say,
            keep=kept.keep if kept is not None else None,
        )
        self._launcher.connect(self.dispatcher)
        self._control_plane = ControlPlane(self.dispatcher, self._token)

    def _busy(self) -> Busy:
        return Busy(
            state=self.state,
            scheduler=self.scheduler,
            calls=self.calls,
            moving=self.ingress.moving,
            runtime=self._runtime,
            traffic=self._traffic,
            own_ports=lambda: frozenset(self._shared_ports()),
            beside=self.sandboxes.moving,
        )

    def _services_environment(self) -> dict[str, str]:
        """What leads clients and containers to services of this machine that would else be somewhere else."""
        return {**self.aws.environment(), "MODAL_STREAMS_URL": self._blob_server.address("streams")}

    def client_environment(self) -> dict[str, str]:
        """Variables for a client: this server, a token that it takes, and no configuration of the user's own."""
        return {
            "MODAL_SERVER_URL": self.server_url,
            "MODAL_TOKEN_ID": self._token.token_id,
            "MODAL_TOKEN_SECRET": self._token.secret,
            "MODAL_CONFIG_PATH": str(self._temporary / "modal.toml"),
            "MODAL_ENVIRONMENT": environment_named(self.state, "").name,
            **self._services_environment(),
        }

    def _shared_ports(self) -> tuple[int, ...]:
        shared = int(self.ingress.url.rpartition(":")[2])
        plane = int(self.server_url.rpartition(":")[2])
        return (self._blob_server.port, self._sandboxing.port, plane, self.aws.port, shared, *self._front.ports())

    def say(self, text: str) -> None:
        """A message of the emulator itself."""
        if self.options.log is not None:
            self.options.log(LogLine(text, "emulator"))

    def _on_task(self, task: Task) -> None:
        """What becomes of a container goes to whoever follows its app."""
        if (app := self.state.apps.get(task.app_id)) is not None:
            app.log.append(container_state(task, self.options.clock.time()))

    def _on_output(self, task_id: str, stream: Stream, text: str) -> None:
        place = self.scheduler.find(task_id)
        if place is None:
            return
        record, slot = place[0].record, place[1]
        if self._images.hears(record.function_id, text):
            return
        app = self.state.apps[record.app_id]
        if text:
            app.log.append(container_output(text, stream, record=record, slot=slot, now=self.options.clock.time()))
        if self.options.log is not None and stream != "system":
            followed = app.state == api_pb2.APP_STATE_EPHEMERAL
            name = app.name or app.description
            self.options.log(LogLine(text, stream, name, record.tag, task_id, followed=followed))
