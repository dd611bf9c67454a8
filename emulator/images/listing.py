"""What `emulator images` shows and removes."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING

from emulator.images.cache import EnvironmentCache, chosen_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SHOWN_COMMAND = 72


def lines(state: Path) -> Iterator[str]:
    """What is kept with that state, or for the user where there is no such state."""
    cache = _cache(state)
    for entry in cache.entries():
        made = datetime.fromtimestamp(entry.made_at).astimezone().strftime("%Y-%m-%d %H:%M")
        last = entry.commands[-1] if entry.commands else "no packages"
        more = f" (and {len(entry.commands) - 1} below)" if len(entry.commands) > 1 else ""
        yield f"{made}  Python {entry.python}  {_megabytes(cache.size(entry.tree))}  {last[:_SHOWN_COMMAND]}{more}"
    yield f"{cache.folder}: {_megabytes(cache.size())}"


def prune(state: Path) -> str:
    """Remove what nobody uses, and say so."""
    cache = _cache(state)
    before = cache.size()
    gone, kept = cache.prune()
    freed = _megabytes(before - cache.size())
    return f"{cache.folder}: {gone} removed, {freed} freed" + (f", {kept} in use" if kept else "")


def _cache(state: Path) -> EnvironmentCache:
    return EnvironmentCache(chosen_folder(os.environ, state if state.is_dir() else None))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
