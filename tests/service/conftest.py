"""One deployment serves the tests of a module: deploying takes seconds, and what the tests do does not interfere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.service.deployment import DEMO, Service, deploy, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.logs import LogLine


@pytest.fixture(scope="module")
def logs() -> list[LogLine]:
    """Whatever the containers and the emulator write."""
    return []


@pytest.fixture(scope="module")
def service(logs: list[LogLine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with the demo model, one whose file is broken, and scripted ones of several tempers."""
    broken = tmp_path_factory.mktemp("broken") / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(4096))
    models = [
        DEMO,
        {"id": "broken", "name": "broken", "path": str(broken)},
        scripted("steady", scaledown_window=300),
        scripted("brief", scaledown_window=2),
        scripted("slow-boot", "--boot-seconds", "3", scaledown_window=2),
        scripted("deaf", "--deaf-to-close", scaledown_window=300),
    ]
    with Emulator(log=logs.append) as emulator:
        yield deploy(emulator, models, WEB__HEARTBEAT_INTERVAL="0.5")
