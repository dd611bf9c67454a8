"""Which function or server an address on the shared port means. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

DOMAIN = ".modal.localhost"


@dataclass(frozen=True)
class Match:
    """A label, and the part of the path that named it: empty when the host did."""

    label: str
    prefix: bytes = b""


def match(*, host: bytes, target: bytes, labels: Container[str]) -> Match | None:
    """`<label>.modal.localhost` or, on any other host, `/<label>/…`; None when neither is one of `labels`."""
    name = host.decode("latin-1").rpartition("@")[2].partition(":")[0].lower()
    if name.endswith(DOMAIN):
        label = name.removesuffix(DOMAIN)
        return Match(label) if label in labels else None
    segment = target.partition(b"?")[0].split(b"/", 2)[1]
    label = segment.decode("latin-1")
    return Match(label, b"/" + segment) if label in labels else None
