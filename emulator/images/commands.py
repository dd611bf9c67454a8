"""What an image's `RUN` commands are: an install of Python packages, or a shell command. Pure."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Tool = Literal["pip", "uv", "sync"]
"""`pip install`, `uv pip install`, `uv sync`."""

VALUED = frozenset(
    (
        *("-r", "--requirement", "--requirements", "-c", "--constraint", "--constraints", "-e", "--editable"),
        *("-i", "--index-url", "--extra-index-url", "--index", "--default-index", "-f", "--find-links"),
        *("--trusted-host", "--allow-insecure-host", "--index-strategy", "--prerelease", "--resolution", "--python"),
        *("--no-binary", "--only-binary", "--upgrade-package", "-P", "--reinstall-package", "--torch-backend"),
        *("--config-settings", "-C", "--timeout", "--default-timeout", "--retries", "--progress-bar", "--cert"),
        *("--group", "--extra", "--project", "--override", "--overrides", "--exclude-newer", "--link-mode", "--target"),
        *("--platform", "--abi", "--implementation", "--python-version", "--src", "--log", "--proxy", "-t", "-p"),
    )
)
"""Options of pip and uv that a value follows, unless it is written with `=`."""
REQUIREMENT_FILES = frozenset(("-r", "--requirement", "--requirements"))
CONSTRAINT_FILES = frozenset(("-c", "--constraint", "--constraints"))

_OPERATORS = frozenset("();<>|&")
_PYTHON = re.compile(r"(?:/\S*/)?python(?:3(?:\.\d+)?)?")
_PIP = re.compile(r"(?:/\S*/)?pip3?")
_UV = re.compile(r"(?:/\S*/)?uv")
_INSTALLER_VARIABLES = ("PIP_", "UV_")
_BRINGS_ITSELF = frozenset(("pip", "setuptools", "uv", "wheel"))
"""Tools of the base images: upgrading those alone changes nothing that an app imports."""
_SYSTEM = re.compile(r"\b(apt-get|apt|apk|yum|dnf|conda|micromamba|mamba|poetry|debconf-set-selections)\b")


@dataclass(frozen=True)
class Install:
    """One command that installs Python packages. Equal installs on equal ones make equal environments."""

    tool: Tool
    words: tuple[str, ...]
    """What follows `install` or `sync`. A value is a word of its own, and a path is absolute."""
    command: str
    """As it was written."""
    files: tuple[tuple[str, str], ...] = ()
    """(path in the container, sha256) of the image's files that the words may lead to."""
    variables: tuple[tuple[str, str], ...] = ()
    """The image's own settings of pip and uv."""


@dataclass(frozen=True)
class Shell:
    """Any other command."""

    command: str
    environment: tuple[tuple[str, str], ...] = ()
    workdir: str = "/root"

    @property
    def is_system(self) -> bool:
        """Whether it installs what is no Python package of pip's."""
        return bool(_SYSTEM.search(self.command))

    def why_not_run(self, *, wanted: bool) -> str:
        """What is said of a command that is not run. `wanted`: whether the emulator was told to run such commands."""
        hint = "" if wanted or self.is_system else " (--run-commands runs such)"
        return f"not run, since images have no operating system here{hint}: {self.command[:120]}"


def parse_run(
    text: str, *, environment: Mapping[str, str], workdir: str, copied: Iterable[tuple[str, str, int]]
) -> Install | Shell | None:
    """What follows `RUN`. None: nothing that could change what an app sees."""
    text = re.sub(r"^(--\S+\s+)+", "", text.strip())
    words = _words(text)
    tool, rest = _tool(words or [])
    if words is None or tool is None:
        return Shell(text, tuple(sorted(environment.items())), workdir)
    rest = _canonical(rest, environment, workdir)
    plain = {word for word, kind in labelled(rest) if kind == ""}
    if tool != "sync" and plain and plain <= _BRINGS_ITSELF and not _paths(rest):
        return None
    settings = sorted((name, value) for name, value in environment.items() if name.startswith(_INSTALLER_VARIABLES))
    return Install(tool, tuple(rest), text, tuple(_files(rest, copied)), tuple(settings))


def _canonical(words: Iterable[str], environment: Mapping[str, str], workdir: str) -> list[str]:
    separate: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        separate += [name, value] if equals and name in VALUED else [word]
    found = []
    for word, option in labelled(put_in(text, environment) for text in separate):
        is_relative = names_path(word, option) and not word.startswith("file://")
        found.append(absolute(word, workdir) if is_relative else word)
    return found


def put_in(word: str, variables: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, of these variables alone; longer names first, since a shell takes all of one."""
    for name in sorted(variables, key=len, reverse=True):
        word = word.replace(f"${{{name}}}", variables[name]).replace(f"${name}", variables[name])
    return word


def labelled(words: Iterable[str]) -> list[tuple[str, str]]:
    """(word, what it is): "" for what is to be installed, "-" for an option, or the option whose value it is."""
    found: list[tuple[str, str]] = []
    option = ""
    for word in words:
        if option:
            found.append((word, option))
            option = ""
        elif word.startswith("-") and word != "-":
            found.append((word, "-"))
            option = word if word in VALUED else ""
        else:
            found.append((word, ""))
    return found


def is_path(word: str) -> bool:
    """Whether pip takes it for a file or folder."""
    return word.startswith(("/", "./", "../")) or word in (".", "..") or word.endswith((".whl", ".tar.gz", ".zip"))


def absolute(path: str, workdir: str) -> str:
    """A path of the container, without `.` and `..`."""
    parts: list[str] = []
    for part in (PurePosixPath(workdir) / path).parts[1:]:
        if part == "..":
            parts = parts[:-1]
        else:
            parts.append(part)
    return "/" + "/".join(parts)


def names_path(word: str, option: str) -> bool:
    """Whether a word, as `labelled` has it, leads to the container's files."""
    if option in REQUIREMENT_FILES | CONSTRAINT_FILES | {"-e", "--editable", "--project", "--override", "--overrides"}:
        return "://" not in word
    if option in ("-f", "--find-links", "--index-url", "-i", "--extra-index-url", "--index", "--default-index"):
        return word.startswith(("/", "./", "../", "file:///"))
    return option == "" and "://" not in word and is_path(word)


def _paths(words: Iterable[str]) -> list[tuple[str, bool]]:
    """(path, whether files beside it may be meant too)."""
    return [
        (re.sub(r"\[[^\]]*\]$", "", word.removeprefix("file://")), option in REQUIREMENT_FILES | CONSTRAINT_FILES)
        for word, option in labelled(words)
        if names_path(word, option)
    ]


def _files(words: Iterable[str], copied: Iterable[tuple[str, str, int]]) -> list[tuple[str, str]]:
    wanted = _paths(words)
    at = {path: sha256 for path, sha256, _ in copied}  # the last copy of a path counts
    found = {}
    for path, sha256 in at.items():
        for target, with_siblings in wanted:
            beside = with_siblings and PurePosixPath(path).parent == PurePosixPath(target).parent
            if beside or PurePosixPath(path).is_relative_to(target):
                found[path] = sha256
    return sorted(found.items())


def _tool(words: list[str]) -> tuple[Tool | None, list[str]]:
    match words:
        case [python, "-m", "pip", "install", *rest] if _PYTHON.fullmatch(python):
            return "pip", rest
        case [pip, "install", *rest] if _PIP.fullmatch(pip):
            return "pip", rest
        case [uv, "pip", "install", *rest] if _UV.fullmatch(uv):
            return "uv", rest
        case [uv, "sync", *rest] if _UV.fullmatch(uv):
            return "sync", rest
        case _:
            return None, []


def _words(text: str) -> list[str] | None:
    """A simple command's words. None for one that only a shell understands."""
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            return None
        return [str(word) for word in words] if isinstance(words, list) else None
    text = text.replace("$(command -v python)", "python")
    try:
        tokens = list(shlex.shlex(text, posix=True, punctuation_chars=True))
        words = shlex.split(text)
    except ValueError:
        return None
    if "`" in text or "$(" in text or any(token and set(token) <= _OPERATORS for token in tokens):
        return None
    return words
