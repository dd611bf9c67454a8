"""Where in a Volume's folder a mount of a part of it leads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def part_of(volume: Path, sub_path: str) -> Path:
    """The folder of a mount's `sub_path`. Raises `ValueError` for one that leads out, be it by a link in the Volume."""
    folder = (volume / sub_path.strip("/")).resolve()
    if ".." in sub_path.split("/") or not folder.is_relative_to(volume.resolve()):
        raise ValueError(f"the sub_path {sub_path!r} leads out of the Volume")
    return folder
