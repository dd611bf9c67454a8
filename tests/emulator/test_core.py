"""The emulator as a whole comes and goes without leaving anything behind, whatever fails on the way."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Never

import pytest

import emulator.core as module
from emulator.core import Core
from emulator.logs import LogLine
from emulator.options import DEFAULT_EXIT_GRACE, Options
from tests.emulator.heart_kit import TurnedClock


def is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def port_of(core: Core) -> int:
    return int(core.server_url.rpartition(":")[2])


async def test_what_fails_to_close_keeps_nothing_else_open_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(Options())
    await core.start()
    folder = Path(core.client_environment()["MODAL_CONFIG_PATH"]).parent
    close = core.ingress.close

    async def fail() -> None:
        await close()
        raise RuntimeError("jammed")

    monkeypatch.setattr(core.ingress, "close", fail)
    with pytest.raises(RuntimeError, match="jammed"):
        await core.stop()
    assert is_free(port_of(core))
    assert not await asyncio.to_thread(folder.exists)


async def test_what_hangs_while_closing_is_given_up_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, lines = TurnedClock(), list[LogLine]()
    core = Core(Options(clock=clock, log=lines.append))
    await core.start()
    hangs = asyncio.Event()
    close = core.scheduler.close

    async def hang(**_: float) -> None:
        hangs.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(core.scheduler, "close", hang)
    stopping = asyncio.create_task(core.stop())
    await hangs.wait()
    await clock.turn(module.STOP_LIMIT + DEFAULT_EXIT_GRACE + 1)
    await stopping
    await close()
    assert is_free(port_of(core))
    assert any("the scheduler did not close" in line.text for line in lines)


def test_one_that_can_not_be_put_together_leaves_no_port_and_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, Path]] = []

    def refuse(self: Core, folder: Path) -> Never:
        made.append((port_of(self), folder.parent))
        raise RuntimeError("no runtime here")

    monkeypatch.setattr(Core, "_assemble", refuse)
    with pytest.raises(RuntimeError, match="no runtime here"):
        Core(Options())
    ((port, folder),) = made
    assert is_free(port)
    assert not folder.exists()
