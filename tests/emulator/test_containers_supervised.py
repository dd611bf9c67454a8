"""The emulator's end of a container, against an init that says and does what the test says."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

import pytest

from emulator.containers.base import ContainerStartError
from emulator.containers.ends import Ends
from emulator.containers.supervised import SupervisedContainer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Init:
    """The other end of a container: what it was told, and what it says."""

    def __init__(self, *, private_network: bool = False) -> None:
        ends = Ends()
        self.control = ends.init_control.dup()
        self.stdout = os.dup(ends.init_stdout)
        self.control.settimeout(5)
        self.written: list[str] = []
        self.released = 0
        self.container = SupervisedContainer(
            "ta-1", ends, self._on_output, self._release, private_network=private_network
        )
        ends.hand_over()

    def _on_output(self, task_id: str, stream: str, text: str) -> None:
        self.written.append(text)

    async def _release(self) -> None:
        self.released += 1

    async def lines(self, count: int) -> list[bytes]:
        """The next lines that it is told."""
        heard = b""
        while heard.count(b"\n") < count:
            heard += await asyncio.to_thread(self.control.recv, 65536)
        return heard.splitlines()


@pytest.fixture
async def init() -> AsyncIterator[Init]:
    init = Init()
    yield init
    init.control.close()
    os.close(init.stdout)
    async with asyncio.timeout(20):
        await init.container.wait()
    assert init.released == 1


@pytest.mark.parametrize("said", [b"nonsense\n", b'{"started": 7, "fds": 1}\n', b'{"socket": true}\n', b"7\n"])
async def test_an_init_that_can_not_be_followed_is_a_failed_start_and_its_end(said: bytes, init: Init) -> None:
    init.control.send(said)
    starting = asyncio.create_task(init.container.started())
    async with asyncio.timeout(20):
        assert set(await init.lines(1)) == {b'{"kill": true}'}
        init.control.shutdown(socket.SHUT_RDWR)
        with pytest.raises(ContainerStartError, match="can not be followed"):
            await starting


async def test_an_init_that_is_slow_to_listen_hears_everything_in_the_end(init: Init) -> None:
    for _ in range(5000):  # far more than a socket holds
        init.container.terminate()
    init.container.kill()
    async with asyncio.timeout(20):
        assert (await init.lines(5001))[-2:] == [b'{"signal": 15}', b'{"kill": true}']


async def test_a_container_that_is_being_cleaned_up_may_still_be_told_to_leave(init: Init) -> None:
    init.control.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(20):
        while init.container._control.fileno() >= 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
    init.container.terminate()
    init.container.kill()


async def test_the_end_of_what_it_writes_is_told_even_when_an_escaped_process_keeps_the_pipe_open(init: Init) -> None:
    os.write(init.stdout, "grü".encode()[:-1])
    init.control.shutdown(socket.SHUT_RDWR)
    async with asyncio.timeout(20):
        await init.container.wait()
    assert "".join(init.written) == "gr\N{REPLACEMENT CHARACTER}"
    assert init.written.count("") == 2, "once for each stream"
