"""Ports for servers that cannot be given an open socket."""

from __future__ import annotations

import random
import socket

ROW = 20
"""Ports that one deployment may have: see `row_of_ports`."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lasting_port() -> int:
    """A free port that no process is given unasked: who lets go of it for a while finds it free again."""
    for _ in range(100):
        port = random.randrange(20_000, 30_000)  # below what Linux and macOS hand out by themselves
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no port between 20000 and 30000 is free")


def row_of_ports(length: int) -> int:
    """The first of some neighbouring free ports, which no other process that asks here is given while this one lives.

    They are bound much later, by processes that this one does not know.
    """
    if length > ROW:
        raise ValueError(f"a row has {ROW} ports, not {length}")
    rows = [*range(10_000, 20_000, ROW)]
    random.SystemRandom().shuffle(rows)  # pytest's plugins seed the other one, alike for all
    for first in rows:
        if _is_claimed(first) and all(map(_is_free, range(first, first + length))):
            return first
    raise RuntimeError(f"no {length} neighbouring ports are free")


def _is_claimed(first: int) -> bool:
    """Claim a row, if nobody has, by its first port's namesake of UDP, which nobody wants for itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as claim:
        try:
            claim.bind(("127.0.0.1", first))
        except OSError:
            return False
        claim.detach()  # open until this process ends
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True
