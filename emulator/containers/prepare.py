"""Making the folder that a container lives in, and the file that tells its init what to do."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.containers.base import ContainerStartError
from emulator.containers.environment import container_environment
from emulator.containers.folder import below, place_file
from emulator.containers.launch import Launch
from emulator.containers.rootplan import Survey, is_below, place_of, plan_root
from emulator.containers.views import described

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.containers.base import ContainerSpec, MountedFile
    from emulator.containers.isolation import Isolation
    from emulator.containers.links import VolumeLinks

_log = logging.getLogger("emulator.containers")

SOURCE_ROOT = "/root"
_PLATFORM = "/__modal"
_SEPARATORS = ":,\\"
"""Mean something among an overlay's options: with one of them in a folder's name there is none."""
_PROXY = 0
"""In place of a port to listen on: the proxy that leads to the internet."""
LARGE_BYTES = 8 * 1024 * 1024
"""A file of this size or more (a model's weights) is not copied for each container but shown to it, read-only."""


def prepare(
    spec: ContainerSpec,
    folder: Path,
    *,
    entry: str,
    machine: Mapping[str, str],
    isolation: Isolation,
    links: VolumeLinks,
    seen: Survey,
) -> Path:
    """Make `folder`, and return its launch file. Raises `ContainerStartError`. Blocks: it copies files."""
    root = folder / "root"
    for path in (SOURCE_ROOT, spec.workdir, _PLATFORM):
        below(root, path).mkdir(parents=True, exist_ok=True)
    if isolation.how:
        launch = _with_root(spec, folder, root, machine, isolation, entry, seen)
    else:
        launch = _without_root(spec, folder, root, machine, links, entry)
    launch.write(folder / "launch.json")
    return folder / "launch.json"


def _with_root(
    spec: ContainerSpec,
    folder: Path,
    root: Path,
    machine: Mapping[str, str],
    isolation: Isolation,
    entry: str,
    seen: Survey,
) -> Launch:
    """Everything at the very path that it has on Modal."""
    views = _views(spec)
    volumes = {path: folder for path, folder in spec.volumes.items() if path not in views}
    for path in [*spec.volumes, *(file.path for file in spec.files)]:
        below(root, path)
    shown: list[tuple[str, str, bool]] = []
    for file in spec.files:
        target = place_of(file.path, seen, folder=folder, root=root)
        if _size(file) < LARGE_BYTES:
            place_file(file, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            shown.append((str(file.source), file.path, False))
    for path in volumes:
        place_of(path, seen, folder=folder, root=root).mkdir(parents=True, exist_ok=True)
    for path, view in views.items():
        _link(path, view["path"], place_of(path, seen, folder=folder, root=root))
    for name, mode in (("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o755), ("home", 0o755)):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(mode)
    control, arguments = f"{_PLATFORM}/control.sock", f"{_PLATFORM}/arguments"
    below(root, arguments).write_bytes(spec.arguments)
    private = spec.private_network and isolation.private_network
    sockets = {control: spec.control_socket} if spec.control_socket.exists() else {}
    plan = plan_root(
        seen,
        folder=folder,
        placed=[*(file.path for file in spec.files), *views],
        volumes=volumes,
        read_only=spec.read_only,
        sockets=sockets,
        changing=spec.changes is not None,
    )
    for _, _, upper, work in plan.overlays:
        for path in (upper, work):
            Path(path).mkdir(parents=True, exist_ok=True)
    environment = container_environment(
        spec,
        machine,
        home=SOURCE_ROOT,
        temporary=None,
        control_socket=control,
        arguments=arguments,
        source_root=SOURCE_ROOT,
        private_network=private,
    )
    return Launch(
        task_id=spec.task_id,
        entry=entry,
        environment=environment,
        workdir=spec.workdir,
        path=_import_path(spec.workdir, environment),
        bare=spec.bare,
        how=isolation.how,
        root=str(root),
        binds=[*plan.binds, *shown],
        overlays=plan.overlays,
        views=list(views.values()),
        private_network=private,
        listen=[*spec.shared_ports, *([] if spec.block_network else [_PROXY])] if private else [],
    )


def _views(spec: ContainerSpec) -> dict[str, dict[str, Any]]:
    """The Volumes that are shown as overlays, by mount path: as `Launch` has them."""
    if any(is_below(one, other) for one in spec.volumes for other in spec.volumes if one != other):
        return {}  # one in another: a link can not lead from one overlay to the other
    try:
        opened = {path: (view.volume_id, view.open()) for path, view in spec.views.items()}
    except OSError as error:
        raise ContainerStartError(f"its Volumes could not be shown: {error}") from error
    return {
        path: described(volume_id, layers, read_only=path in spec.read_only, direct=str(spec.volumes[path]))
        for path, (volume_id, layers) in opened.items()
        if not set(_SEPARATORS) & set(f"{layers.lower}{layers.upper}")
    }


def _link(path: str, leads_to: str, at: Path) -> None:
    """Have a Volume's mount path lead to where it is, as on Modal."""
    at.parent.mkdir(parents=True, exist_ok=True)
    try:
        if at.is_dir():
            at.rmdir()
        at.symlink_to(leads_to)
    except OSError as error:
        raise ContainerStartError(f"cannot mount volume on non-empty path: {path!r} ({error.strerror})") from error


def _without_root(
    spec: ContainerSpec, folder: Path, root: Path, machine: Mapping[str, str], links: VolumeLinks, entry: str
) -> Launch:
    """A folder that stands for `/root`; only relative paths and imports find what is in it."""
    for file in spec.files:
        place_file(file, below(root, file.path))
    for path, volume in spec.volumes.items():
        links.need(Path(path), volume)
        if path in spec.read_only:
            _log.warning("the volume at %s is read-only on Modal; here containers could write to it", path)
    temporary, arguments = folder / "tmp", folder / "arguments"
    temporary.mkdir()
    arguments.write_bytes(spec.arguments)
    source_root, workdir = str(below(root, SOURCE_ROOT)), str(below(root, spec.workdir))
    environment = container_environment(
        spec,
        machine,
        home=source_root,
        temporary=str(temporary),
        control_socket=str(spec.control_socket),
        arguments=str(arguments),
        source_root=source_root,
        private_network=False,
    )
    return Launch(
        task_id=spec.task_id,
        entry=entry,
        environment=environment,
        workdir=workdir,
        path=_import_path(workdir, environment),
        bare=spec.bare,
    )


def _size(file: MountedFile) -> int:
    try:
        return file.source.stat().st_size
    except OSError as error:
        raise ContainerStartError(f"the container's file {file.path} can not be read: {error}") from error


def _import_path(workdir: str, environment: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys([workdir, *environment["PYTHONPATH"].split(":")]))
