"""One deployment serves the tests of a module: deploying takes seconds, and what the tests do does not interfere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.service.deployment import DEMO, Service, deploy, scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.containers import Kind
    from emulator.logs import LogLine

HEARTBEAT = "0.5"
DOMAIN = "llm.example.com"


@pytest.fixture(scope="module")
def logs() -> list[LogLine]:
    """Whatever the containers and the emulator write."""
    return []


@pytest.fixture(scope="module")
def service(logs: list[LogLine], containers: Kind) -> Iterator[Service]:
    """The service with scripted models of several tempers."""
    models = [
        scripted("steady", scaledown_window=300),
        scripted("brief", scaledown_window=2),
        scripted("slow-boot", "--boot-seconds", "3", scaledown_window=2),
        scripted("deaf", "--deaf-to-close", scaledown_window=300),
    ]
    with Emulator(log=logs.append, containers=containers) as emulator:
        yield deploy(emulator, models, WEB__HEARTBEAT_INTERVAL=HEARTBEAT)


@pytest.fixture(scope="module")
def service_with_files(logs: list[LogLine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with the demo model, one whose file is broken, and a scripted one.

    Never on threads: they have no file system of their own, in which the models' files could be at their paths.
    """
    broken = tmp_path_factory.mktemp("broken") / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(4096))
    models = [DEMO, {"id": "broken", "name": "broken", "path": str(broken)}, scripted("steady", scaledown_window=300)]
    with Emulator(log=logs.append) as emulator:
        yield deploy(
            emulator, models, WEB__HEARTBEAT_INTERVAL=HEARTBEAT, DEPLOY__CUSTOM_DOMAINS=f'["{DOMAIN}"]'
        )  # fmt: skip
