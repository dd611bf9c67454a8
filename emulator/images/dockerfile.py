"""An image's layers, as Dockerfile commands tell them: variables, folder, files, and what is run. Pure."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from emulator.images.commands import Install, Shell, parse_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from modal_proto import api_pb2

DEFAULT_WORKDIR = "/root"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What `$PATH` is in an image that has not set it."""

_ASSUMED = frozenset(("SHELL", "LABEL", "EXPOSE", "MAINTAINER", "STOPSIGNAL", "HEALTHCHECK"))
_EARLIER = frozenset(("base", "scratch"))
"""What a layer may be built from that no registry has."""
_UV_ITSELF = re.compile(r"--from=\S*\buv\b")
_PYTHON_TAG = re.compile(r"(?:\S*/)?python:(3\.\d+)")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass
class Layers:
    """The sum of an image's layers so far."""

    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = DEFAULT_WORKDIR
    copied: list[tuple[str, str, int]] = field(default_factory=list)
    """(path in the container, sha256, mode)"""
    installs: list[Install] = field(default_factory=list)
    shells: list[Shell] = field(default_factory=list)
    """Of this layer alone."""
    python: str = ""
    """The series that the base image has, e.g. "3.12"; empty where nothing tells."""
    not_honoured: list[str] = field(default_factory=list)
    """Of this layer alone."""
    arguments: dict[str, str] = field(default_factory=dict)
    """Of the build, by `ARG`."""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    """What a Sandbox runs: the words of its `ENTRYPOINT`, and those that follow where it is given none."""


def apply_commands(
    layers: Layers,
    commands: Iterable[str],
    context: Iterable[api_pb2.MountFile],
    *,
    build_arguments: Mapping[str, str] | None = None,
) -> None:
    """Add one layer: Dockerfile commands, and the files of its build context."""
    files, given = list(context), dict(build_arguments or {})
    for command in _joined(commands):
        keyword, _, rest = command.partition(" ")
        rest = rest.strip()
        known = {"PATH": DEFAULT_PATH, **layers.arguments, **layers.environment}
        match keyword.upper():
            case "FROM":
                _begin(layers, _expand(rest, known))
            case "ARG":
                name, _, default = rest.partition("=")
                layers.arguments[name] = given.get(name, _expand(default.strip("'\""), known))
            case "ENV":
                layers.environment.update(_env(rest, known))
            case "WORKDIR":
                path = _expand(rest.strip("'\""), known)
                layers.workdir = str(PurePosixPath(layers.workdir) / path)
            case "COPY" | "ADD" if "--from" not in rest and (
                added := _copy(_expand(rest, known), files, layers.workdir)
            ):
                layers.copied += added
            case "COPY" if _UV_ITSELF.search(rest):
                pass  # the client brings uv so; this machine's does the work
            case "RUN":
                _run(layers, rest)
            case "ENTRYPOINT":
                layers.entrypoint, layers.command = _words(rest), ()
            case "CMD":
                layers.command = _words(rest)
            case other if other not in _ASSUMED:
                layers.not_honoured.append(command)


def python_of(tag: str) -> str:
    """The Python series of Docker's own images: "3.12" of `python:3.12.10-slim-bookworm`; else empty."""
    found = _PYTHON_TAG.match(tag)
    return found[1] if found else ""


def _words(rest: str) -> tuple[str, ...]:
    """A command as a list in JSON, or else one for a shell."""
    try:
        words = json.loads(rest)
    except ValueError:
        return ("/bin/sh", "-c", rest)
    return tuple(map(str, words)) if isinstance(words, list) else ("/bin/sh", "-c", rest)


def _begin(layers: Layers, rest: str) -> None:
    """`FROM …`: what a registry has is not pulled."""
    tag = next((word for word in rest.split() if not word.startswith("--")), "")
    if tag in _EARLIER:
        return
    layers.python = python_of(tag)
    if not layers.python:
        layers.not_honoured.append(f"FROM {tag}")


def _run(layers: Layers, rest: str) -> None:
    known = {**layers.arguments, **layers.environment}

    def parsed(text: str) -> Install | Shell | None:
        return parse_run(text, environment=known, workdir=layers.workdir, copied=layers.copied)

    runs = [parsed(part) for part in rest.split("&&")]
    if any(isinstance(run, Shell) for run in runs):
        runs = [parsed(rest)]
    for run in runs:
        if isinstance(run, Install):
            # `uv sync` makes an environment of its own, whatever was installed before.
            layers.installs = [*([] if run.tool == "sync" else layers.installs), run]
        elif run is not None:
            layers.shells.append(run)


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
