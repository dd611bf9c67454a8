"""Stands in for three packages that SGLang imports on any device and that a CPU has no use for: torchvision, sgl_kernel
and triton.

Their wheels want CUDA or are not to be had for a CPU. This module and `standins.pth` beside it are copied into an
environment of SGLang's own, so that every process of that environment has them: SGLang starts several.

Importing one of them gives modules whose every name is there: those with a capital are classes, the others modules of
the same kind. Only what is done with them while SGLang's own modules are imported works (decorating a kernel,
subclassing, constants in annotations); calling anything else is an error that names it, so that no test passes by a
kernel that was never there. `importlib.util.find_spec` says that they are not installed, which is what others who
could use them (transformers) ask it.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PACKAGES = frozenset({"torchvision", "sgl_kernel", "triton"})
DECORATORS = frozenset({"jit", "autotune", "heuristics", "constexpr_function"})
"""What is called while modules are imported; with a kernel alone, or with options and then the kernel."""
REGISTRIES = frozenset({"kernel_load_start_hook"})
"""To which SGLang adds a function that would be called for a kernel."""
CLASSES = frozenset({"constexpr", "dtype"})
"""Classes without a capital."""


def is_stood_in_for(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


class _Nothing:
    """What the classes are: it can be made of anything, and subscripted in annotations."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.value = arguments[0] if arguments else None

    def __class_getitem__(cls, item: object) -> type:
        return cls


class _StandIn(ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - a package to the import system
    __version__ = "0.0.0"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self.__name__}.{name}"
        if name[0].isupper() or name in CLASSES:
            value: Any = type(name, (_Nothing,), {"__module__": self.__name__})
        else:
            value = sys.modules.setdefault(full, _StandIn(full))
        setattr(self, name, value)
        return value

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        path = self.__name__.split(".")
        if not REGISTRIES.isdisjoint(path):
            return None
        if path[-1] not in DECORATORS:
            raise NotImplementedError(f"{self.__name__} was called, and this environment has only a stand-in for it")
        if len(arguments) == 1 and callable(arguments[0]):
            return arguments[0]
        return lambda kernel: kernel


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if is_stood_in_for(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


def _honest(find_spec: Callable[..., ModuleSpec | None]) -> Callable[..., ModuleSpec | None]:
    def found(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if is_stood_in_for(name) else find_spec(name, package)

    return found


def install() -> None:
    """Called by `standins.pth` when Python starts."""
    sys.meta_path.insert(0, _Finder())
    importlib.util.find_spec = _honest(importlib.util.find_spec)
