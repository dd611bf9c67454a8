"""Namespaces of a container's own: where it looks from, which processes it sees, which network it has.

`how` is the right by which they are made: "root", or "user" for a user namespace in which an ordinary user is root.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from emulator.containers.guest import linux, network, root

HOWS = ("root", "user")


def fork_isolated(how: str) -> None:
    """Go on as the first process of a new process (and user) namespace. The caller waits for it and ends with it."""
    user, group = os.getuid(), os.getgid()
    linux.unshare(linux.CLONE_NEWPID | (linux.CLONE_NEWUSER if how == "user" else 0))
    if how == "user":
        _be_root_for(user, group)
    if child := os.fork():
        os.closerange(3, 1024)  # the channel among them: its other end is to see the end of the container, not this one
        _, status = os.waitpid(child, 0)
        os._exit(status and 1)
    linux.set_death_signal(signal.SIGKILL)


def fork_into_processes() -> int:
    """`os.fork`, whose child is the first process of a new process namespace. The caller stays in its own."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.unshare(linux.CLONE_NEWPID)
        if child := os.fork():
            linux.setns(own, linux.CLONE_NEWPID)
        return child
    finally:
        os.close(own)


def unshare_view(*, private_network: bool) -> None:
    """Mounts and shared memory of its own, and, if asked for, a network with nothing but a loopback and an `eth0`."""
    linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWIPC | (linux.CLONE_NEWNET if private_network else 0))
    if private_network:
        network.bring_up()


def probe(folder: str) -> tuple[str, bool, str]:
    """(how, private networks too, why not) of what this machine allows; `how` is empty when nothing.

    Tries it all in throw-away processes, since that which forbids it (capabilities, seccomp, security modules, sysctls)
    cannot be read anywhere. `folder` is an empty folder of this machine.
    """
    if sys.platform != "linux":
        return "", False, "namespaces are Linux's"
    reasons = []
    for how in HOWS:
        for private_network in (True, False):
            why = _attempt(how, folder, private_network=private_network)
            if not why:
                return how, private_network, ""
            reasons.append(f"as {how}: {why}")
    return "", False, reasons[-1]


def _attempt(how: str, folder: str, *, private_network: bool) -> str:
    """Why a container cannot be isolated so. Empty when it can."""
    readable, writable = os.pipe()
    if child := os.fork():
        os.close(writable)
        with os.fdopen(readable) as answers:
            why = answers.read()
        _, status = os.waitpid(child, 0)
        return why or ("" if status == 0 else f"status {status}")
    try:
        user, group = os.getuid(), os.getgid()
        linux.unshare(linux.CLONE_NEWPID | (linux.CLONE_NEWUSER if how == "user" else 0))
        if how == "user":
            _be_root_for(user, group)
        if first := os.fork():
            _, status = os.waitpid(first, 0)
            os._exit(0 if status == 0 else 1)
        unshare_view(private_network=private_network)
        root.enter(folder, [("/usr", "/usr", False)], [])
        os._exit(0)
    except OSError as error:
        os.write(writable, str(error).encode())
    finally:
        os._exit(1)


def _be_root_for(user: int, group: int) -> None:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
