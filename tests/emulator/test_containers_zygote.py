"""The warm process that containers are forked from: one at a time, and quiet when it is not wanted any more."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess

import pytest

from emulator.containers.base import OwnPython
from emulator.containers.guest_command import guest_command, guest_environment
from emulator.containers.isolation import Isolation
from emulator.containers.zygote import Zygote, ZygoteSpawner
from tests.emulator.containers_kit import WITHIN


@pytest.mark.slow
async def test_an_emulator_that_stops_while_it_imports_leaves_no_traceback() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *guest_command("zygote", theirs.fileno(), ""),
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=guest_environment(os.environ),
        )
    ours.close()
    async with asyncio.timeout(WITHIN):
        _, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")


async def test_starts_that_come_while_a_dead_one_is_put_away_share_its_successor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[FakeZygote] = []
    put_away = asyncio.Event()

    class FakeZygote:
        dead = False

        async def close(self) -> None:
            await put_away.wait()

    async def warm(_how: str, _python: OwnPython | None) -> FakeZygote:
        made.append(FakeZygote())
        return made[-1]

    monkeypatch.setattr(Zygote, "warm", warm)
    spawner = ZygoteSpawner()
    first = await spawner.warm(Isolation())
    first.dead = True
    starts = [asyncio.create_task(spawner.warm(Isolation())) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    put_away.set()
    async with asyncio.timeout(WITHIN):
        one, other = await asyncio.gather(*starts)
    assert {id(one), id(other)} == {id(made[1])}
    assert len(made) == 2
    await spawner.close()
