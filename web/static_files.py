"""The files that the chat page is made of: as they were built, compressed beforehand, told apart by what they hold.

A name that holds a hash of its content (`main-AB12CD34.js`) never means anything else: browsers keep such a file for
ever. Any other is asked for again each time, and answered by 304 while it is the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2",
}  # fmt: skip
SUFFIXES = {"br": ".br", "gzip": ".gz"}
"""Content coding -> what the name of the file in it ends with; the better one first."""
HASHED = re.compile(r"-[A-Z0-9]{8}\.\w+$")
FOR_EVER = "public, max-age=31536000, immutable"
ASK_AGAIN = "no-cache"


@dataclass(frozen=True)
class StaticFile:
    """A file in one coding: its bytes, and what is said of them."""

    content: bytes
    headers: Mapping[str, str]
    etag: str


class StaticFiles:
    """The files of one folder, no others: what asks for a path outside names nothing. Each is read when it is first
    asked for, and held."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: frozenset[str] | None = None
        self._held: dict[str, StaticFile] = {}

    def find(self, name: str, *, accept_encoding: str | None) -> StaticFile | None:
        """The file of this name as the caller takes it; None: there is none."""
        names = self._listed()
        suffix = name[name.rfind(".") :]
        if name not in names or suffix not in MEDIA_TYPES:
            return None
        there = [coding for coding, ending in SUFFIXES.items() if name + ending in names]
        coding = best_coding(accept_encoding, there)
        actual = name if coding is None else name + SUFFIXES[coding]
        if actual not in self._held:
            self._held[actual] = _read(self._folder / actual, name=name, coding=coding, varies=bool(there))
        return self._held[actual]

    def _listed(self) -> frozenset[str]:
        if self._names is None:
            self._names = frozenset(path.name for path in self._folder.iterdir() if path.is_file())
        return self._names


def _read(path: Path, *, name: str, coding: str | None, varies: bool) -> StaticFile:
    content = path.read_bytes()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {
        "content-type": MEDIA_TYPES[name[name.rfind(".") :]], "etag": etag,
        "cache-control": FOR_EVER if HASHED.search(name) else ASK_AGAIN, "x-content-type-options": "nosniff",
    }  # fmt: skip
    if coding is not None:
        headers["content-encoding"] = coding
    if varies:
        headers["vary"] = "accept-encoding"
    return StaticFile(content, headers, etag)


def best_coding(accept_encoding: str | None, there: Collection[str]) -> str | None:
    """The best of the codings that are `there`, in their order, that a caller takes by its header; None: as it is."""
    weights: dict[str, float] = {}
    for part in (accept_encoding or "").lower().split(","):
        coding, _, weight = part.partition(";")
        weights[coding.strip()] = _weight(weight)
    fallback = weights.get("*", 0.0)
    best = max((weights.get(coding, fallback) for coding in there), default=0.0)
    return next((coding for coding in there if best > 0 and weights.get(coding, fallback) == best), None)


def _weight(parameter: str) -> float:
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def unchanged(if_none_match: str | None, etag: str) -> bool:
    """Whether a caller has what `etag` names already, as its header says (RFC 9110, 13.1.2: weakly compared)."""
    if if_none_match is None:
        return False
    known = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in known or etag in known
