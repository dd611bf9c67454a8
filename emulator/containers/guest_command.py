"""How to start an interpreter of the container's side."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from emulator.containers.environment import inherited
from emulator.containers.launch import BOOTSTRAP, emulator_root

if TYPE_CHECKING:
    from collections.abc import Mapping


def guest_command(mode: str, *arguments: object) -> list[str]:
    """The command line of `guest.main` in that mode."""
    words = [sys.executable, "-I", "-X", "utf8", "-c", BOOTSTRAP, emulator_root(), mode, *arguments]
    return [str(word) for word in words]


def guest_environment(machine: Mapping[str, str]) -> dict[str, str]:
    """What the container's side starts with, before it is any container: none of the developer's Modal settings."""
    return {**inherited(machine), "HOME": "/nonexistent", "MODAL_IS_REMOTE": "1"}
