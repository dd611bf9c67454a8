"""Whose modules a container runs: the test's own where they are what was deployed, else those that were added to it.

A module that the process has imported, and whose source is what was added to the function's image, is the container's
too: breakpoints, coverage and patches reach it. All else (an app that the `modal` command deployed, say) a container
imports for itself from the files that were added, as on Modal; nobody else sees these modules in `sys.modules`.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterator, MutableMapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.identity import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from emulator.containers.thread.patching import Patches

OWN = "modules"
"""Where an identity's `own` has its `OwnModules`; none where its modules are the process's."""


class OwnModules(MutableMapping[str, Any]):
    """`sys.modules` of a container that has modules of its own: those under `names`, found on `path`.

    What its code makes and puts there by hand is its own too; what it imports from elsewhere is the process's.
    """

    def __init__(self, names: frozenset[str], path: Sequence[str], process: dict[str, Any]) -> None:
        self.names = names
        self.path = list(path)
        self._process = process
        self._table: dict[str, Any] = {}

    def holds(self, name: str) -> bool:
        return name.partition(".")[0] in self.names

    def has(self, name: str) -> bool:
        """Whether that module is there, and the container's own."""
        return name in self._table

    def _of(self, name: str) -> dict[str, Any]:
        return self._table if name in self._table or self.holds(name) else self._process

    def __getitem__(self, name: str) -> Any:
        return self._of(name)[name]

    def __setitem__(self, name: str, module: Any) -> None:
        by_hand = name not in self._process and getattr(module, "__spec__", None) is None
        (self._table if by_hand else self._of(name))[name] = module

    def __delitem__(self, name: str) -> None:
        del self._of(name)[name]

    def __iter__(self) -> Iterator[str]:
        shared = [name for name in list(self._process) if not self.holds(name) and name not in self._table]
        return iter(shared + list(self._table))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def own_modules() -> OwnModules | None:
    """Of the container whose code is running, if it has any."""
    identity = current()
    return None if identity is None else identity.own.get(OWN)


class Modules(dict[str, Any]):
    """Stands for `sys.modules`: the container's, or for everybody else the process's."""

    def __init__(self, process: dict[str, Any]) -> None:
        super().__init__()
        self.process = process

    @property
    def _seen(self) -> MutableMapping[str, Any]:
        own = own_modules()
        return self.process if own is None else own

    def __getitem__(self, name: str) -> Any:
        return self._seen[name]

    def __setitem__(self, name: str, module: Any) -> None:
        self._seen[name] = module

    def __delitem__(self, name: str) -> None:
        del self._seen[name]

    def __contains__(self, name: object) -> bool:
        return name in self._seen

    def __iter__(self) -> Iterator[str]:
        return iter(self._seen)

    def __len__(self) -> int:
        return len(self._seen)

    def __eq__(self, other: object) -> bool:
        return self._seen == other

    __hash__ = None

    def __repr__(self) -> str:
        return repr(self._seen)

    def get(self, name: str, default: Any = None) -> Any:
        return self._seen.get(name, default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        return self._seen.setdefault(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        return self._seen.pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        return self._seen.popitem()

    def clear(self) -> None:
        self._seen.clear()

    def update(self, *args: Any, **named: Any) -> None:
        self._seen.update(*args, **named)

    def copy(self) -> dict[str, Any]:
        return dict(self._seen)

    def keys(self) -> Any:
        return self._seen.keys()

    def values(self) -> Any:
        return self._seen.values()

    def items(self) -> Any:
        return self._seen.items()


class OwnFinder:
    """Finds a container's own modules, before any other finder is asked."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        own = own_modules()
        if own is None or not own.holds(name):
            return None
        return PathFinder.find_spec(name, own.path if path is None else path, target)

    def invalidate_caches(self) -> None:
        """It has none."""


def install(patches: Patches) -> None:
    process = sys.modules
    modules = Modules(process)
    finder = OwnFinder()
    patches.put(sys, "modules", modules)
    sys.meta_path.insert(0, finder)
    patches.later(lambda: _remove(finder))
    patches.wrap(builtins, "__import__", _import)


def _import(original: Callable[..., Any]) -> Callable[..., Any]:
    """The interpreter's own `import` looks into the process's table, whatever stands in `sys.modules`: what a container
    is to have for itself would be the process's, where that has a module of the same name."""

    def load(
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - as the interpreter names them
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        own = own_modules()
        if own is None or not own.holds(name if level == 0 else str((globals or {}).get("__package__"))):
            return original(name, globals, locals, fromlist, level)
        return importlib.__import__(name, globals, locals, fromlist or (), level)

    return load


def _remove(finder: OwnFinder) -> None:
    if finder in sys.meta_path:
        sys.meta_path.remove(finder)


def process_modules() -> dict[str, Any]:
    return sys.modules.process if isinstance(sys.modules, Modules) else sys.modules


def own_names(paths: Iterable[str], roots: Sequence[str]) -> frozenset[str]:
    """The top-level modules and packages among the files at `paths` that can be imported from `roots`."""
    names = set()
    for path in paths:
        for root in roots:
            if path.startswith(root.rstrip("/") + "/") and path.endswith((".py", ".so", ".pyi")):
                top = path[len(root.rstrip("/")) + 1 :].split("/")[0]
                names.add(top.split(".")[0])
    return frozenset(name for name in names if name.isidentifier())


def added_source(module: str, sources: Mapping[str, Path], roots: Sequence[str]) -> Path | None:
    """The file of that module among those that were added, by their paths in the container."""
    relative = module.replace(".", "/")
    for root in roots:
        for name in (f"{relative}.py", f"{relative}/__init__.py"):
            if (found := sources.get(f"{root.rstrip('/')}/{name}")) is not None:
                return found
    return None


def is_processes(module: str, source: Path | None) -> bool:
    """Whether the process has that module, from the same source. Without a source, it is the process's to find."""
    if source is None:
        return True
    file = getattr(process_modules().get(module), "__file__", None)
    if file is None:
        return False
    try:
        return Path(file).read_bytes() == source.read_bytes()
    except OSError:
        return False
