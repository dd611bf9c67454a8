"""What of this machine a container with a root of its own sees: system folders and the interpreter, and nothing else.

The deployer's home, project and other folders are not there at all, wherever they are: a file that only the deployer's
disk has is missing, as on Modal. What is shown is read-only where the kernel can (5.12 and later).
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.containers.environment import CERTIFICATE_FILES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/nix", "/gnu", "/sys")
_LINKED = ("/etc/resolv.conf", "/etc/localtime", "/etc/ssl/certs", "/etc/ssl/cert.pem")
_PREFIX_PARTS = ("bin", "sbin", "lib", "lib64", "libexec", "include", "share", "etc", "ssl", "pyvenv.cfg")

_MOST_LINKS = 40
"""As many as the kernel follows."""

Bind = tuple[str, str, bool]


@dataclass(frozen=True)
class Survey:
    """What of this machine every container is shown: found once, since it takes longer than to show it."""

    system: tuple[str, ...]
    others: tuple[str, ...]
    """What lies outside of `system`: the interpreter, what its environment installed, links' targets, certificates."""


@dataclass
class RootPlan:
    """`binds` and `overlays` as `Launch` has them."""

    binds: list[Bind] = field(default_factory=list)
    overlays: list[tuple[str, str, str, str]] = field(default_factory=list)


def survey(machine: Mapping[str, str], shown: Iterable[Path] = ()) -> Survey:
    """Look at this machine, whose environment is `machine`. `shown` are more folders that containers are to see."""
    system = [Path(name) for name in SYSTEM if Path(name).exists() and (Path(name).is_symlink() or _holds(name))]
    more = [*shown, *(link for path in shown for link in links_on_the_way(path))]
    others = uncovered((*interpreter_folders(), *more, *linked_files(machine)), system)
    return Survey(tuple(map(str, system)), tuple(map(str, others)))


def interpreter_folders() -> list[Path]:
    """This environment and the one below it."""
    prefixes = dict.fromkeys(Path(p) for p in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix))
    parts = [part for prefix in prefixes for part in environment_parts(prefix)]
    places = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    executable = Path(sys.executable)
    real = executable.resolve().parent
    found = (*parts, *map(Path, (*places, *site.getsitepackages())), real, *links_on_the_way(executable))
    # Where links lead too: the environment's folder may itself be one.
    return [path for path in (*found, *(path.resolve() for path in found)) if path.exists()]


def links_on_the_way(path: Path) -> list[Path]:
    """The links that `path` leads through: an environment's interpreter is often a link to a link elsewhere."""
    found: list[Path] = []
    while len(found) < _MOST_LINKS:
        link = next((at for at in (*reversed(path.parents), path) if at.is_symlink()), None)
        if link is None:
            break
        found.append(link)
        path = Path(os.path.normpath(link.parent / link.readlink() / path.relative_to(link)))
    return found


def environment_parts(prefix: Path) -> list[Path]:
    """An environment's folder if it holds nothing else, else its parts: it may itself be the deployer's project."""
    if all(entry.name in _PREFIX_PARTS or entry.name.startswith(".") for entry in prefix.iterdir()):
        return [prefix]
    return [prefix / part for part in _PREFIX_PARTS]


def linked_files(machine: Mapping[str, str]) -> list[Path]:
    """Where links of the system lead, and the machine's own certificates."""
    named = [Path(machine[name]) for name in CERTIFICATE_FILES if machine.get(name)]
    links = [Path(name) for name in _LINKED if Path(name).exists()]
    return [path for path in (*(link.resolve() for link in links), *named) if path.exists()]


def uncovered(paths: Iterable[Path], covered: Iterable[Path]) -> list[Path]:
    """Those of `paths` that lie in none of `covered` and in no earlier one."""
    seen = list(covered)
    found = []
    for path in paths:
        if not any(path.is_relative_to(other) for other in seen):
            found.append(path)
            seen.append(path)
    return found


def plan_root(
    seen: Survey,
    *,
    folder: Path,
    placed: Iterable[str],
    volumes: Mapping[str, Path],
    read_only: Collection[str],
    sockets: Mapping[str, Path],
    changing: bool = False,
) -> RootPlan:
    """The root of one container. `folder` is the container's own folder on this machine; `read_only` are of `volumes`.

    Where a file or volume lies in a system folder, that folder is an overlay, with `folder/over/<name>` on top; all of
    them are (but the kernel's own), where what the container changes is to be kept (`changing`).
    """
    wanted = (*placed, *volumes)
    plan = RootPlan()
    for path in seen.system:
        is_changing = changing and path != "/sys" and not Path(path).is_symlink()
        if is_changing or any(is_below(other, path) for other in wanted):
            upper, work = overlay_folders(folder, path)
            plan.overlays.append((path, path, str(upper), str(work)))
        else:
            plan.binds.append((path, path, False))
    plan.binds += [(path, path, False) for path in seen.others]
    plan.binds += [(str(source), path, path not in read_only) for path, source in {**sockets, **volumes}.items()]
    return plan


def overlay_folders(folder: Path, system: str) -> tuple[Path, Path]:
    """(upper, work) of the overlay over a system folder."""
    base = folder / "over" / system.strip("/")
    return base / "upper", base / "work"


def place_of(path: str, seen: Survey, *, folder: Path, root: Path) -> Path:
    """Where on this machine to put a file that the container is to see at `path`."""
    for system in seen.system:
        if is_below(path, system):
            return overlay_folders(folder, system)[0] / path[len(system) :].lstrip("/")
    return root / path.lstrip("/")


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def _holds(folder: str) -> bool:
    """Whether there is anything in a folder of the system."""
    try:
        return any(Path(folder).iterdir())
    except OSError:
        return False
