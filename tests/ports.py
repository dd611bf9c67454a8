"""Ports for servers that cannot be given an open socket."""

from __future__ import annotations

import random
import socket


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
