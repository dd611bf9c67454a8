"""Sandboxes and what is around them: Functions that make them, apps that stop, and the emulator's own end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.emulator import Emulator
from tests.parity.kit import for_emulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.kit import Target

SOON = 30.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "Sandboxes of Functions")
def test_a_function_makes_a_sandbox_of_its_own_app(target: Target) -> None:
    assert target.deploy("sandboxes.py").function("in_a_sandbox").remote("hello") == ("HELLO", 0, "again\n")


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "apps that stop")
def test_an_apps_sandboxes_end_with_it(target: Target) -> None:
    app = modal.App("sandboxes-that-end")
    with app.run(client=target.client):
        sandbox = modal.Sandbox.create(app=app, client=target.client)
        assert sandbox.exec("true").wait() == 0
    assert modal.Sandbox.from_id(sandbox.object_id, client=target.client).returncode == 137


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "isolation")
@pytest.mark.emulator_only("looks at this machine's processes")
def test_nothing_of_a_sandbox_outlives_the_emulator() -> None:
    with Emulator() as emulator:
        own = for_emulator(emulator)
        app = modal.App.lookup("alive", create_if_missing=True, client=own.client)
        sandbox = modal.Sandbox.create("sh", "-c", "sleep 98761 & setsid sleep 98762", app=app, client=own.client)
        sandbox.exec("sh", "-c", "setsid -f sleep 98763")
        until(lambda: len(sleeping()) == 3)
        own.client.close()
    assert sleeping() == []


def sleeping() -> list[str]:
    """The sleeps of that test."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and words[1].startswith(b"9876"):
                found.append(entry.name)
    return found
