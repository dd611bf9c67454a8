"""Whether installed packages are what an image asks for: names, versions, extras and markers, all the way down."""

from __future__ import annotations

import json
import re
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from emulator.containers.guest.paths import installed_roots
from emulator.images.commands import CONSTRAINT_FILES, REQUIREMENT_FILES, absolute, labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from emulator.images.commands import Install

_HASH = re.compile(r"\s--hash[=\s]\S+")
_DEEPEST = 20
"""Requirement files in requirement files."""
_TOOLS = frozenset(("pip", "setuptools", "uv", "wheel"))


class Undecidable(Exception):
    """What is asked for can not be told from names and versions: paths, addresses, locks."""


def asked_for(install: Install, read: Callable[[str], str]) -> list[Requirement]:
    """What an install asks for, constraints included where they concern what is asked for by name.

    `read` gives the text of a file of the image by its path, and raises `OSError` where there is none. Raises
    `Undecidable`.
    """
    if install.tool == "sync":
        raise Undecidable("uv sync makes an environment of its own")
    found: list[Requirement] = []
    for word, option in labelled(install.words):
        if option == "":
            found.append(_requirement(word))
        elif option in REQUIREMENT_FILES | CONSTRAINT_FILES:
            found += _of_file(absolute(word, "/root"), read, constrains=option in CONSTRAINT_FILES)
        elif option in ("-e", "--editable"):
            raise Undecidable(word)
    return found


def unmet(requirements: Iterable[Requirement]) -> list[str]:
    """Those that the running environment does not meet, and those of what they in turn need. Empty: all are met."""
    waiting, seen, missing = list(requirements), set(), []
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(name)
        if found is None and name in _TOOLS:
            continue
        if found is None or not requirement.specifier.contains(found.version, prereleases=True):
            missing.append(str(requirement))
            continue
        for extra in ("", *requirement.extras):
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += _needed(found, extra)
    return sorted(set(missing))


def _installed(name: str) -> Distribution | None:
    """What containers can import. An editable install is the deployer's own folder, which they do not see."""
    roots = list(dict.fromkeys(map(str, installed_roots())))
    return next((found for found in distributions(name=name, path=roots) if not _is_editable(found)), None)


def _is_editable(found: Distribution) -> bool:
    try:
        origin = json.loads(found.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(origin.get("dir_info", {}).get("editable"))


def _needed(found: Distribution, extra: str) -> list[Requirement]:
    """What a distribution needs, for that extra or without one."""
    needed = []
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None:
            applies = extra == ""
        else:
            applies = marker.evaluate({"extra": extra}) and (extra == "" or not marker.evaluate({"extra": ""}))
        if applies:
            requirement.marker = None
            needed.append(requirement)
    return needed


def _requirement(text: str) -> Requirement:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        raise Undecidable(text) from error
    if requirement.url:
        raise Undecidable(text)
    return requirement


def _of_file(path: str, read: Callable[[str], str], *, constrains: bool, depth: int = 0) -> list[Requirement]:
    if depth > _DEEPEST:
        raise Undecidable(path)
    try:
        text = read(path)
    except OSError as error:
        raise Undecidable(path) from error
    found: list[Requirement] = []
    for line in _lines(text):
        if line.startswith("-"):
            option, _, value = line.replace("=", " ", 1).partition(" ")
            if option in ("-e", "--editable"):
                raise Undecidable(line)
            if option in REQUIREMENT_FILES | CONSTRAINT_FILES:
                other = absolute(value.strip(), path.rpartition("/")[0] or "/")
                found += _of_file(other, read, constrains=constrains or option in CONSTRAINT_FILES, depth=depth + 1)
        elif constrains:
            found += _if_installed(_requirement(line))
        else:
            found.append(_requirement(line))
    return found


def _if_installed(requirement: Requirement) -> list[Requirement]:
    """A constraint is met by what is not there."""
    return [requirement] if _installed(canonicalize_name(requirement.name)) is not None else []


def _lines(text: str) -> Iterable[str]:
    for line in text.replace("\\\n", " ").splitlines():
        kept = _HASH.sub("", re.sub(r"(^|\s)#.*", "", f" {line}")).strip()
        if kept:
            yield kept
