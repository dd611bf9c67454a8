"""GGUF models that lie in several files: `name-00001-of-00003.gguf` and its siblings, of which llama.cpp is told the
first and finds the others by their names (its `llama_split_path`). Pure, but for `part_missing`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PART: Final = re.compile(r"(?P<stem>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


def parts_of(file: Path) -> list[Path]:
    """All files of the model that `file` is, or is a part of, in order: by their names, whether or not they exist."""
    named = _PART.fullmatch(file.name)
    if named is None or not 1 <= int(named["number"]) <= int(named["count"]):
        return [file]
    count = named["count"]
    return [file.with_name(f"{named['stem']}-{number:05d}-of-{count}.gguf") for number in range(1, int(count) + 1)]


def is_projector(name: str) -> bool:
    """Whether a file is what a model sees with, by llama.cpp's custom, and no model itself: it lies beside one."""
    return "mmproj" in name.rpartition("/")[2].lower()


def only_model(files: Iterable[Path]) -> Path | None:
    """The file, or the first part, of the model that these are; None where they are none, or several models."""
    models = {tuple(parts_of(file)) for file in files if not is_projector(file.name)}
    return models.pop()[0] if len(models) == 1 else None


def part_missing(file: Path) -> str | None:
    """What keeps llama.cpp from loading a model in parts by this file of it, and what to do; None for other files."""
    parts = parts_of(file)
    if len(parts) == 1:
        return None
    if file != parts[0]:
        return f"is one of {len(parts)} parts, and llama.cpp loads them by the first; set `path` to {parts[0].name}"
    absent = [part.name for part in parts if not part.is_file()]
    if not absent:
        return None
    return f"of its {len(parts)} parts {', '.join(absent)} cannot be found; fetch all of them into one folder"
