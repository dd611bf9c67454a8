"""What the emulator knows: apps, functions, classes, images, mounts, storage, tokens. Plain data.

It belongs to the server and outlives every container. Names are scoped by environment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.images.commands import Install  # noqa: TC001 - kept with the images: what is kept is looked up here
from emulator.signals import Signal
from emulator.storage.dicts import DictContents
from emulator.storage.queues import QueueContents

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from emulator.protocol.addresses import Address

WORKSPACE = "local"
WORKSPACE_ID = "ac-LocalWorkspace00000000"
USER_ID = "us-LocalUser000000000000"
DEFAULT_ENVIRONMENT = "main"
IMAGE_BUILDER_VERSION = "2025.06"
LOG_BATCHES_KEPT = 20_000
LOG_BYTES_KEPT = 32 << 20
"""Of one app's output."""

LIVE_STATES = frozenset(
    {
        api_pb2.APP_STATE_INITIALIZING,
        api_pb2.APP_STATE_EPHEMERAL,
        api_pb2.APP_STATE_DETACHED,
        api_pb2.APP_STATE_DETACHED_DISCONNECTED,
        api_pb2.APP_STATE_DEPLOYED,
    }
)


NOT_KEPT = {"kept": False}
"""Metadata of a field that is of the running emulator alone: it has a default (see `storage/shapes.py`)."""


@dataclass(eq=False)
class AppLog:
    """An app's output, newest last; entry ids count from 1."""

    batches: deque[api_pb2.TaskLogsBatch] = field(default_factory=deque)
    count: int = 0
    size: int = 0
    """Bytes of the batches that are kept."""
    done: bool = False
    changed: Signal = field(default_factory=Signal)

    def append(self, batch: api_pb2.TaskLogsBatch) -> None:
        self.count += 1
        batch.entry_id = f"{self.count}-0"
        self.batches.append(batch)
        self.size += batch.ByteSize()
        while len(self.batches) > 1 and (len(self.batches) > LOG_BATCHES_KEPT or self.size > LOG_BYTES_KEPT):
            self.size -= self.batches.popleft().ByteSize()
        self.changed.notify()

    def after(self, entry_id: str) -> list[api_pb2.TaskLogsBatch]:
        """Batches after that entry (all that are kept, for an empty id)."""
        fresh = self.count - _number(entry_id)
        return list(self.batches)[-fresh:] if fresh > 0 else []

    def newer(self, entry_id: str) -> bool:
        """Whether there is something after that entry."""
        return self.count > _number(entry_id)

    def before(self, moment: float) -> str:
        """The id of the last batch from before a moment (seconds since the epoch)."""
        fresh = 0
        for batch in reversed(self.batches):
            if batch.items[0].timestamp < moment:
                break
            fresh += 1
        return f"{self.count - fresh}-0"

    def finish(self) -> None:
        self.done = True
        self.changed.notify()


def _number(entry_id: str) -> int:
    return int(entry_id.split("-")[0]) if entry_id else 0


@dataclass(frozen=True)
class Definition:
    """A function as one deploy has published it. Never changed: what is in force is a copy."""

    tag: str
    definition: api_pb2.Function
    data: api_pb2.FunctionData


@dataclass(frozen=True)
class AppVersion:
    """What one deploy has made of an app: all that it takes to bring it back."""

    function_ids: Mapping[str, str]
    class_ids: Mapping[str, str]
    definitions: Mapping[str, Definition]
    """By function id."""


@dataclass(eq=False)
class App:
    app_id: str
    description: str
    environment: str
    state: api_pb2.AppState.ValueType
    created_at: float
    last_heartbeat: float = field(default=0.0, metadata=NOT_KEPT)
    name: str = ""
    """Set once deployed."""
    web_suffix: str = ""
    """Of its environment."""
    deployed_at: float = 0.0
    stopped_at: float = 0.0
    stopped_by: str = ""
    version: int = 0
    """In force; 0 before the first deploy."""
    function_ids: dict[str, str] = field(default_factory=dict, metadata=NOT_KEPT)
    """Of the version in force, as is the next."""
    class_ids: dict[str, str] = field(default_factory=dict, metadata=NOT_KEPT)
    tags: dict[str, str] = field(default_factory=dict)
    history: list[api_pb2.AppDeploymentHistory] = field(default_factory=list, metadata=NOT_KEPT)
    """It and the versions are kept entry by entry."""
    versions: dict[int, AppVersion] = field(default_factory=dict, metadata=NOT_KEPT)
    """By number: those of the history that can be rolled back to."""
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock, metadata=NOT_KEPT)
    """Held while something is put in force: the second writer comes after the first."""
    log: AppLog = field(default_factory=AppLog, metadata=NOT_KEPT)

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES


@dataclass(frozen=True)
class Staged:
    """What a deploy has made of a function, before it is published: nothing of it is in force."""

    definition: api_pb2.Function
    data: api_pb2.FunctionData
    addresses: tuple[Address, ...] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    """As in `FunctionRecord`."""
    definition_id: str = ""
    """By which the deploy that has made it publishes it, and no other's."""


@dataclass(eq=False)
class FunctionRecord:
    """A function, a class's service function, a Server, or one of these with parameters bound."""

    function_id: str
    app_id: str
    tag: str
    definition: api_pb2.Function = field(default_factory=api_pb2.Function)
    """What containers are started from: the last published one."""
    staged: Staged | None = None
    """Created by a deploy that has not been published yet; the last, where there are several at once."""
    stagings: dict[str, Staged] = field(default_factory=dict)
    """Those of late that have not been published, by definition id."""
    definition_id: str = ""
    """Of what is in force."""
    data: api_pb2.FunctionData = field(default_factory=api_pb2.FunctionData)
    overrides: api_pb2.AutoscalerSettings = field(default_factory=api_pb2.AutoscalerSettings)
    """Of the definition's own, until it is published again."""
    version: int = 0
    """Counts publications: containers of an older one leave."""
    urls: dict[str, str] = field(default_factory=dict)
    """Web address by method name; a function's or a Server's own under the empty name."""
    base_function_id: str = ""
    serialized_params: bytes = b""
    options: api_pb2.FunctionOptions = field(default_factory=api_pb2.FunctionOptions)
    """With which it was made from its base, by `with_options`."""

    @property
    def incomplete(self) -> bool:
        """A class with a parameter that has no default, before it has values: nothing can run of it."""
        schema = self.definition.class_parameter_info.schema
        return not self.serialized_params and any(not parameter.has_default for parameter in schema)


@dataclass(eq=False)
class ClassRecord:
    class_id: str
    app_id: str


@dataclass(frozen=True)
class ImageRecord:
    """An image as its layers describe it."""

    image_id: str
    environment: Mapping[str, str]
    workdir: str
    copied: tuple[tuple[str, str, int], ...] = ()
    """Files that a layer copies in: (path in the container, sha256, mode)."""
    python: str = ""
    """The series that it asks for, e.g. "3.12"; empty: any."""
    installs: tuple[Install, ...] = ()
    """What makes its Python environment, of all layers, the oldest first."""
    unfinished: bool = False
    """A step that runs in a container is still to be done."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """What a Sandbox runs: `entrypoint`, and `command` where it is given no words of its own."""


@dataclass(frozen=True)
class MountRecord:
    mount_id: str
    files: tuple[api_pb2.MountFile, ...]
    checksum: str = ""
    python: str = ""
    """The series of the standalone Python that it would be on Modal, e.g. "3.12"."""


@dataclass(eq=False)
class Secret:
    secret_id: str
    name: str
    environment: str
    values: dict[str, str]
    created_at: float
    last_used_at: float = 0.0
    app_id: str = ""
    """Of the app that goes with it, for one without a name."""


@dataclass(eq=False)
class Volume:
    volume_id: str
    name: str
    environment: str
    path: Path
    version: api_pb2.VolumeFsVersion.ValueType
    created_at: float


@dataclass(eq=False)
class DictRecord:
    dict_id: str
    name: str
    environment: str
    created_at: float
    contents: DictContents = field(default_factory=DictContents, metadata=NOT_KEPT)


@dataclass(eq=False)
class QueueRecord:
    queue_id: str
    name: str
    environment: str
    created_at: float
    contents: QueueContents = field(default_factory=QueueContents, metadata=NOT_KEPT)


@dataclass(frozen=True)
class ProxyToken:
    token_id: str
    secret: str
    name: str
    created_at: float


@dataclass(eq=False)
class Environment:
    environment_id: str
    name: str
    created_at: float
    web_suffix: str = ""
    """What the labels of its web addresses begin with."""
    default: bool = False
    """The one that is meant where none is named."""


@dataclass(eq=False)
class State:
    """Everything by id. Handlers look names up by walking: there are never many.

    Under a state directory each dictionary is kept (see `storage/keeper.py`) but for what has no name, where it may
    have one, and is filled before any handler is made.
    """

    apps: dict[str, App] = field(default_factory=dict)
    functions: dict[str, FunctionRecord] = field(default_factory=dict, metadata=NOT_KEPT)
    """Made anew from the versions of the apps."""
    classes: dict[str, ClassRecord] = field(default_factory=dict)
    images: dict[str, ImageRecord] = field(default_factory=dict)
    mounts: dict[str, MountRecord] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    volumes: dict[str, Volume] = field(default_factory=dict)
    dicts: dict[str, DictRecord] = field(default_factory=dict)
    queues: dict[str, QueueRecord] = field(default_factory=dict)
    proxy_tokens: dict[str, ProxyToken] = field(default_factory=dict)
    environments: dict[str, Environment] = field(default_factory=dict)

    def deployed(self, name: str, environment: str) -> App | None:
        """The app deployed under that name now."""
        for app in self.apps.values():
            if app.name == name and app.environment == environment and app.state == api_pb2.APP_STATE_DEPLOYED:
                return app
        return None

    def app_name(self, app_id: str) -> str:
        """As it is called: empty when it is not there."""
        app = self.apps.get(app_id)
        return "" if app is None else app.name or app.description

    def authorizes(self, token_id: str, secret: str) -> bool:
        token = self.proxy_tokens.get(token_id)
        return token is not None and token.secret == secret
