"""Where a request comes from, when proxies stand in between. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from starlette.types import Scope

    Networks = Sequence[IPv4Network | IPv6Network]

MOST_HOPS = 16
"""Entries of `X-Forwarded-For` that are looked at, from the right."""
UNKNOWN = "unknown"
LONGEST_ADDRESS = 100
"""Characters: an IPv6 address in full, with brackets, the name of an interface and a port."""


def client_address(scope: Scope, trusted: Networks, *, behind_proxy: bool = False) -> str:
    """The address of the client, as its limits are kept by: an IPv4 address, or the /64 of an IPv6 one, all of which
    belongs to one customer.

    It is the connection's peer, unless that is a trusted proxy: then `X-Forwarded-For` is read from the right, past
    trusted proxies, up to the first address that is none: what stands left of it is whatever the client said.
    `behind_proxy`: nobody but a proxy can connect, whatever its address. (`Forwarded` is not read: a proxy that appends
    to the one header passes the other on as the client sent it.)
    """
    peer = scope.get("client")
    address = _parsed(peer[0]) if peer else None
    if address is None:
        return UNKNOWN
    if behind_proxy or _is_trusted(address, trusted):
        address = _forwarded(scope, address, trusted)
    return _spelled(address)


def _forwarded(scope: Scope, peer: IPv4Address | IPv6Address, trusted: Networks) -> IPv4Address | IPv6Address:
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    hops = ",".join(lines).rsplit(",", MOST_HOPS)[-MOST_HOPS:] if lines else []
    nearest = peer
    for hop in reversed(hops):
        address = _parsed(hop.strip())
        if address is None:
            break
        nearest = address
        if not _is_trusted(address, trusted):
            break
    return nearest


def _is_trusted(address: IPv4Address | IPv6Address, trusted: Networks) -> bool:
    return any(address in network for network in trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port; None for anything else, of which nothing long is remembered."""
    return _read(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _read(text: str) -> IPv4Address | IPv6Address | None:
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)
def _spelled(address: IPv4Address | IPv6Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address, 64), strict=False))
