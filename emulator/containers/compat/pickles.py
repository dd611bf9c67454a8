"""The client's pickles, where a container has modules of its own.

C code looks a class up in the interpreter's table of modules, which has nobody's own. So these go by the way that
Python code imports; for whoever reads such a pickle that makes no difference.
"""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from types import FunctionType
from typing import TYPE_CHECKING, Any

from emulator.containers.thread.modules import own_modules

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.thread.patching import Patches


def find_own_classes(patches: Patches) -> None:
    from modal import _serialization

    patches.wrap(_serialization.Pickler, "reducer_override", _reduce)
    patches.wrap(_serialization.Unpickler, "find_class", _find)


def _reduce(original: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def reduce(self: Any, value: Any) -> Any:
        if isinstance(value, type | FunctionType) and _is_own(value):
            # By reference, as any other: its module, by name, and in that its own name.
            return attrgetter(value.__qualname__), (sys.modules[value.__module__],)
        return original(self, value)

    return reduce


def _is_own(value: Any) -> bool:
    own, name = own_modules(), getattr(value, "__module__", None)
    if own is None or not isinstance(name, str) or not own.has(name):
        return False
    try:
        return attrgetter(value.__qualname__)(own[name]) is value
    except AttributeError:  # made in a function: by value
        return False


def _find(original: Callable[[Any, str, str], Any]) -> Callable[[Any, str, str], Any]:
    def find(self: Any, module: str, name: str) -> Any:
        own = own_modules()
        if own is None or not own.holds(module):
            return original(self, module, name)
        return attrgetter(name)(importlib.import_module(module))

    return find
