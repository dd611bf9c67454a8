"""How to start an interpreter of the container's side."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from emulator.containers.environment import client_path, inherited
from emulator.containers.launch import BOOTSTRAP, emulator_root

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.containers.base import OwnPython


def guest_command(mode: str, *arguments: object, python: OwnPython | None = None) -> list[str]:
    """The command line of `guest.main` in that mode, for the emulator's own interpreter or an image's."""
    interpreter = sys.executable if python is None else python.interpreter
    words = [interpreter, "-I", "-X", "utf8", "-c", BOOTSTRAP, emulator_root(), mode, *arguments]
    return [str(word) for word in words]


def guest_environment(machine: Mapping[str, str], python: OwnPython | None = None) -> dict[str, str]:
    """What the container's side starts with, before it is any container: none of the developer's Modal settings."""
    return {**inherited(machine, python), **client_path(python), "HOME": "/nonexistent", "MODAL_IS_REMOTE": "1"}
