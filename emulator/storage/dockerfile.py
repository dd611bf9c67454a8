"""What can be honoured of an image's layers without building one: variables, the working directory, copied files. Pure.

The installation that runs the emulator is the image's Python and its packages; every other command is listed, so that
the deployer can be told once.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modal_proto import api_pb2

DEFAULT_WORKDIR = "/root"

_ASSUMED = re.compile(
    r"(FROM|SHELL|ARG|ENTRYPOINT|CMD|LABEL|EXPOSE|MAINTAINER|STOPSIGNAL|HEALTHCHECK)\b", re.IGNORECASE
)
_INSTALLS = re.compile(
    r"\b(pip|uv|poetry|conda|micromamba|apt-get|apt|apk|debconf-set-selections|modal_requirements)\b"
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass
class Layers:
    """The sum of an image's layers so far."""

    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = DEFAULT_WORKDIR
    copied: list[tuple[str, str, int]] = field(default_factory=list)
    """(path in the container, sha256, mode)"""
    not_honoured: list[str] = field(default_factory=list)


def apply_commands(layers: Layers, commands: Iterable[str], context: Iterable[api_pb2.MountFile]) -> None:
    """Add one layer: Dockerfile commands, and the files of its build context."""
    files = list(context)
    for command in _joined(commands):
        keyword, _, rest = command.partition(" ")
        match keyword.upper():
            case "ENV":
                layers.environment.update(_env(rest, layers.environment))
            case "WORKDIR":
                path = _expand(rest.strip().strip("'\""), layers.environment)
                layers.workdir = str(PurePosixPath(layers.workdir) / path)
            case "COPY" | "ADD" if files and "--from" not in rest:
                layers.copied += _copy(rest, files, layers.workdir)
            case _ if not _ASSUMED.match(command):
                layers.not_honoured.append(command)


def is_install(command: str) -> bool:
    """Whether a command installs packages: the running installation is taken as it is."""
    return bool(_INSTALLS.search(command))


def _joined(commands: Iterable[str]) -> Iterable[str]:
    """Whole commands: continuation lines put together, comments dropped."""
    pending = ""
    for line in (part for command in commands for part in command.splitlines()):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        pending += text
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        yield pending
        pending = ""
    if pending:
        yield pending


def _env(rest: str, known: Mapping[str, str]) -> dict[str, str]:
    words = shlex.split(rest)
    if words and "=" not in words[0]:  # the old form: ENV NAME all the rest
        name, _, value = rest.strip().partition(" ")
        return {name: _expand(value.strip(), known)}
    pairs = (word.partition("=") for word in words)
    return {name: _expand(value, known) for name, _, value in pairs}


def _expand(text: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: known.get(match[1] or match[2], ""), text)


def _copy(rest: str, files: list[api_pb2.MountFile], workdir: str) -> list[tuple[str, str, int]]:
    """`COPY source… target` over the files of a context, whose names are relative to its root."""
    *sources, target = [word for word in shlex.split(rest) if not word.startswith("--")]
    base = PurePosixPath(workdir) / target
    copied = []
    for source in sources:
        prefix = PurePosixPath("/") / source
        for file in files:
            name = PurePosixPath("/") / file.filename
            if name == prefix:
                path = base / name.name if target.endswith("/") else base
            elif name.is_relative_to(prefix):
                path = base / name.relative_to(prefix)
            else:
                continue
            copied.append((str(path), file.sha256_hex, file.mode or 0o644))
    return copied
