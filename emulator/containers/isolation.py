"""What this machine allows containers: found once for a runtime, by trying."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emulator.containers.base import ContainerStartError
from emulator.containers.channel import Decoder, receive
from emulator.containers.folder import remove
from emulator.containers.guest_command import guest_command, guest_environment

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("emulator.containers")


@dataclass(frozen=True)
class Isolation:
    """`how`: by which right namespaces are made ("root", "user", or "" for none at all), see `guest.namespaces`."""

    how: str = ""
    private_network: bool = False
    why: str = ""
    """What forbids the rest."""

    def describe(self) -> str:
        if not self.how:
            return f"containers share this machine's files and network: no namespaces ({self.why})"
        network = "network of their own for Servers" if self.private_network else "this machine's network"
        return f"containers have files and processes of their own (by {self.how} namespaces), {network}"


async def detect(folder: Path) -> Isolation:
    """Ask a throw-away process, which uses up the empty `folder`. Raises `ContainerStartError` when none starts."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    try:
        with ours, theirs:
            code = await _probe(theirs, folder)
            theirs.close()
            messages = receive(ours, Decoder())
    finally:
        remove(folder)
    found = Isolation(**messages[0].body) if messages else Isolation(why=f"the probe ended with status {code}")
    _log.info(found.describe())
    return found


async def _probe(answer: socket.socket, folder: Path) -> int:
    try:
        process = await asyncio.create_subprocess_exec(
            *guest_command("probe", answer.fileno(), folder),
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(answer.fileno(),),
            cwd="/",
            env=guest_environment(os.environ),
        )
    except OSError as error:
        raise ContainerStartError(f"no interpreter could be started: {error}") from error
    return await process.wait()
