"""Which packages an image's commands install with pip or uv, and which of them are not here. Images are not built."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_INSTALL = re.compile(r"\bpip3?\s+install\s+(.*)")
_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[^\]]*\])?\s*([<>=!~;].*)?")
_FLAGS = frozenset(("--compile-bytecode", "--no-cache-dir", "--no-deps", "--pre", "--system", "--upgrade", "-U", "-q"))
"""Options that no value follows."""
_TOOLS = frozenset(("pip", "setuptools", "uv", "wheel"))
"""What base images bring for themselves."""


def packages(command: str) -> list[str]:
    """Names that a Dockerfile's command installs, as far as they stand in it: not those of a requirements file."""
    if (found := _INSTALL.search(command)) is None:
        return []
    try:
        words = shlex.split(found[1])
    except ValueError:
        return []
    names, is_value = [], False
    for word in words:
        if word.startswith("-"):
            is_value = word not in _FLAGS and "=" not in word
        elif is_value:
            is_value = False
        elif (named := _REQUIREMENT.fullmatch(word)) and named[1] not in _TOOLS:
            names.append(named[1])
    return names


def not_installed(names: Iterable[str]) -> list[str]:
    """Those that this Python has no package of."""
    missing = []
    for name in dict.fromkeys(names):
        try:
            distribution(name)
        except PackageNotFoundError:
            missing.append(name)
    return missing
