"""Which function or server an address on the shared port means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

DOMAIN = ".modal.localhost"


@dataclass(frozen=True)
class Match:
    """A label, and the part of the path that named it: empty when the host did."""

    label: str
    prefix: bytes = b""


def match(
    *, host: bytes, target: bytes, labels: Container[str], domains: Mapping[str, str] | None = None
) -> Match | None:
    """`<label>.modal.localhost`, a host of the deployers' own or, on any other, `/<label>/…`; None when none is known.

    `domains` has the label of each host name of the deployers' own.
    """
    name = host.decode("latin-1").rpartition("@")[2].partition(":")[0].lower()
    if name.endswith(DOMAIN):
        label = name.removesuffix(DOMAIN)
        return Match(label) if label in labels else None
    if domains and name in domains:
        return Match(domains[name])
    segment = target.partition(b"?")[0].split(b"/", 2)[1]
    label = segment.decode("latin-1")
    return Match(label, b"/" + segment) if label in labels else None
