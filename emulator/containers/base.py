"""What a container is to the rest of the emulator: something started from a spec, watched, reached and stopped.

Each kind of container (forks of a warm runtime, subprocesses, later threads) is one file beside this one and implements
`ContainerRuntime`; nothing outside this package knows which kind is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

Stream = Literal["stdout", "stderr", "system"]
"""`system`: what the emulator says of the container, in the app's log; not the container's own words."""
OnOutput = Callable[[str, Stream, str], None]
"""Called on the emulator's loop with (task_id, stream, text) for whatever a container writes.

An empty text, once for each stream, says that nothing more comes.
"""


@dataclass(frozen=True)
class MountedFile:
    """One file that the deployer added to the function: `source` on this machine, seen at `path` in the container."""

    path: str
    """Where the container sees it: absolute, e.g. `/root/app.py`."""
    source: Path
    mode: int = 0o644


@dataclass(frozen=True)
class Layers:
    """Folders of this machine that make up a Volume as one container sees it, all of one file system."""

    lower: Path
    """What is there, which does not change."""
    upper: Path
    """What the container changes, as an overlay of Linux has it."""
    work: Path
    """Empty, for the kernel's own use."""
    at: Path
    """Empty, to mount something at."""


class Shown(Protocol):
    """A container that is shown Volumes, by id."""

    async def hide(self, volume_id: str) -> None:
        """Take a Volume away. Raises `OpenFilesError`, and `ConnectionError` when the container has ended."""

    async def show(self, volume_id: str, layers: Layers, *, read_only: bool) -> None:
        """Show it again. Raises `OSError`."""


class VolumeView(Protocol):
    """A Volume as one container is to see it, where this machine can show such: a snapshot, and its own changes."""

    volume_id: str

    def open(self) -> Layers:
        """Make the layers. Raises `OSError`. Blocks."""

    def shown(self, container: Shown) -> None:
        """The container has started, and sees them. Not called where it sees the Volume itself."""


@dataclass(frozen=True)
class OwnPython:
    """An image's own Python environment, in the place of the emulator's."""

    interpreter: Path
    """Its `bin/python`: of a virtual environment, which the container sees read-only."""
    client: Path
    """A folder with the `modal` client and what it needs, looked through after the environment's own packages."""
    shown: tuple[Path, ...] = ()
    """Folders of this machine that a container has to see for it."""


@dataclass(frozen=True)
class ContainerSpec:
    """Everything that is needed to start one container. Holds no reference to the emulator's state."""

    task_id: str
    arguments: bytes
    """A serialized `modal_proto.api_pb2.ContainerArguments`."""
    control_socket: Path
    """The unix socket on which the control plane listens for this container alone."""
    environment: Mapping[str, str]
    """The image's variables, the Secrets' and the function's own: all that user code sees, beside an allow-list."""
    image_id: str
    python: OwnPython | None = None
    """Of an image that needs other packages, or another Python, than the emulator's own environment has."""
    workdir: str = "/root"
    files: Sequence[MountedFile] = ()
    volumes: Mapping[str, Path] = field(default_factory=dict)
    """Absolute mount path in the container -> directory on this machine."""
    views: Mapping[str, VolumeView] = field(default_factory=dict)
    """By mount path: in the place of `volumes`, where the runtime can show overlays."""
    read_only: Collection[str] = ()
    """Mount paths of volumes that it may not write to: said, not enforced, where it has no root of its own."""
    changes: Path | None = None
    """A folder of this machine in which the container's files are left when it ends (see `images.changes`)."""
    private_network: bool = False
    """A loopback of its own, where the machine allows that: for Servers, which bind fixed ports."""
    bare: bool = False
    """Without the client's runtime: nothing runs in it but what is executed, and it ends with the main one of these."""
    block_network: bool = False
    """No way out of that loopback but `shared_ports`. Refused where it can have none of its own."""
    fixed_ports: Sequence[int] = ()
    """Ports that it will bind: without a network of its own, only one container at a time can have each."""
    shared_ports: Sequence[int] = ()
    """Ports of 127.0.0.1 on this machine that must be reachable at the same address from a private network.

    None of `fixed_ports`: in there, those are the container's to bind.
    """


@dataclass(frozen=True, kw_only=True)
class Command:
    """One more program to run in a container that is there."""

    words: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of the container's own."""
    workdir: str = ""
    """Absolute; the container's own if empty."""
    terminal: tuple[int, int] | None = None
    """(rows, columns) of a terminal that its three streams are to be."""
    main: bool = False
    """A bare container ends with it."""


@dataclass(frozen=True)
class ContainerExit:
    """How a container ended: `code` as `subprocess` gives it (negative: killed by that signal)."""

    code: int


class Running(Protocol):
    """A command that runs in a container.

    Descriptors are non-blocking, and the caller's to close. With a terminal all output is `stdout`, `stderr` is None,
    and what reads `stdout` meets `OSError` (EIO) at its end.
    """

    @property
    def stdin(self) -> int: ...

    @property
    def stdout(self) -> int: ...

    @property
    def stderr(self) -> int | None: ...

    async def wait(self) -> ContainerExit:
        """Return when it has ended. What it has started may still run."""

    def kill(self) -> None:
        """SIGKILL it and its process group. Does nothing once it has ended."""


class Container(Protocol):
    """A running container."""

    @property
    def task_id(self) -> str: ...

    @property
    def pid(self) -> int: ...

    async def wait(self) -> ContainerExit:
        """Return when the container's main process has ended; what it left behind is killed and cleaned up by then."""

    def terminate(self) -> None:
        """Ask it to leave: SIGTERM to the container's main process. Does nothing once it has ended."""

    def read_output(self) -> None:
        """Hand on what it has written until now, before whatever it reports next is looked at."""

    def interrupt(self) -> None:
        """Interrupt what it works on: SIGINT to the main process, after which the client runs exit handlers."""

    def kill(self) -> None:
        """SIGKILL the container and everything that it started. Does nothing once it has ended."""

    async def execute(self, command: Command) -> Running:
        """Run a command in it, beside what runs there: same files, processes, network and environment.

        Raises `CommandError` for a command that cannot be run, and `ContainerStartError` when the container has ended.
        """

    async def dial(self, port: int) -> socket.socket:
        """A non-blocking TCP socket connected to `port` on the container's 127.0.0.1.

        Raises `ConnectionRefusedError` while nothing listens there.
        """


class ContainerRuntime(Protocol):
    """Starts containers of one kind."""

    async def start(self, spec: ContainerSpec, on_output: OnOutput) -> Container:
        """Start a container. Raises `ContainerStartError` when this machine cannot."""

    async def close(self) -> None:
        """Kill every container that is still there and release everything."""


class ContainerStartError(Exception):
    """This machine could not start a container: the message says why and what can be done."""


class OpenFilesError(Exception):
    """Something of a Volume is open in the container, so that it can not be taken away."""


class CommandError(Exception):
    """A command could not be run. `code`: the exit status that a shell would give it."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
