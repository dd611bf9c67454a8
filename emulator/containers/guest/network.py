"""The network of a container that has one of its own: a loopback, and an `eth0` that leads nowhere."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct

ETH0_ADDRESS = "172.20.0.2"
"""What a `web_server` function looks up and connects to (as on Modal, it must then listen on more than loopback)."""

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCSIFADDR = 0x8913, 0x8914, 0x8916
_IFF_UP = 1
_RTM_NEWLINK = 16
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_EXCL, _NLM_F_CREATE = 1, 4, 0x200, 0x400
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 3, 18, 1, 2, 1


def bring_up() -> None:
    """Bring up the loopback; then `eth0`, as far as the kernel has a device to make it of (else there is none)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set_up(control, "lo")
        with contextlib.suppress(OSError):
            _make_pair("eth0", "eth0-peer")
            _set_address(control, "eth0", ETH0_ADDRESS)
            for name in ("eth0-peer", "eth0"):
                _set_up(control, name)


def _set_up(control: socket.socket, name: str) -> None:
    request = struct.pack("16sH22x", name.encode(), 0)
    (flags,) = struct.unpack_from("H", fcntl.ioctl(control, _SIOCGIFFLAGS, request), 16)
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def _set_address(control: socket.socket, name: str, address: str) -> None:
    packed = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
    fcntl.ioctl(control, _SIOCSIFADDR, struct.pack("16s16s8x", name.encode(), packed))


def _make_pair(name: str, peer: str) -> None:
    """A pair of virtual devices, by one netlink message."""
    empty_link = struct.pack("BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)
    peer_link = empty_link + _attribute(_IFLA_IFNAME, peer.encode() + b"\0")
    kind = _attribute(_IFLA_INFO_KIND, b"veth\0")
    data = _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, peer_link))
    body = empty_link + _attribute(_IFLA_IFNAME, name.encode() + b"\0") + _attribute(_IFLA_LINKINFO, kind + data)
    flags = _NLM_F_REQUEST | _NLM_F_ACK | _NLM_F_EXCL | _NLM_F_CREATE
    header = struct.pack("IHHII", 16 + len(body), _RTM_NEWLINK, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.send(header + body)
        (error,) = struct.unpack_from("i", netlink.recv(4096), 16)
        if error:
            raise OSError(-error, f"making {name}")


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("HH", length, kind) + value + b"\0" * (-length % 4)


def listen(port: int) -> socket.socket:
    """Listen, without blocking, on 127.0.0.1 of the network that this process is in."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
