"""What the documents say that can be looked up: links, anchors, commands."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!\!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")


def pages() -> list[Path]:
    """Everything that is written for readers."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests/conformance/README.md"])


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[str]:
    """Where a page points to, other sites left out."""
    text = SPAN.sub(lambda span: "`" + "x" * len(span[1]) + "`", prose(page))
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} +(.+?)\s*$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        count = seen.get(slug, -1) + 1
        seen[slug] = count
        if count:
            seen.setdefault(f"{slug}-{count}", 0)
    return set(seen)


def code(page: Path) -> Iterator[str]:
    """Blocks of code and code in the text."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        yield block[0]
    yield from SPAN.findall(FENCE.sub("", text))


def make_targets(page: Path) -> set[str]:
    return {
        name for piece in code(page) for name in re.findall(r"(?:^|[\s$&;(])make ([a-z][a-z-]*)", piece, re.MULTILINE)
    }


def modules(page: Path) -> set[str]:
    """What the page runs as `python -m …`, and the paths of Python's own programs of `.venv/bin`."""
    return {name for piece in code(page) for name in re.findall(r"python3? -m ([A-Za-z_][\w.]*)", piece)}
