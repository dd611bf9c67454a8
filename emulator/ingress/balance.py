"""Which container of a Server gets a request. Pure.

With a `Modal-Session-ID`, rendezvous hashing: each container scores the session's id and the highest wins, so that a
container that comes or goes moves only the sessions that it wins or had. Without one, the least loaded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from emulator.ingress.base import ServerTarget


@dataclass(frozen=True)
class Full:
    """Every container that may serve the request has as many as it takes: answer 429."""


def rendezvous(session: bytes, candidates: Sequence[str]) -> str:
    """The candidate that wins `session`: the same for the same candidates, in whatever order. There must be one."""
    return max(candidates, key=lambda name: (_score(session, name), name))


def choose(
    targets: Sequence[ServerTarget], *, session: bytes | None, max_concurrency: int | None
) -> ServerTarget | Full | None:
    """The container for a request; None when there is none at all.

    A session whose container is full is refused, as on Modal: its caller decides whether to drop the affinity.
    """
    if not targets:
        return None
    if session:
        winner = rendezvous(session, [target.task_id for target in targets])
        target = next(target for target in targets if target.task_id == winner)
    else:
        target = min(targets, key=lambda target: target.active)
    if max_concurrency is not None and target.active >= max_concurrency:
        return Full()
    return target


def _score(session: bytes, name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8, key=hashlib.blake2b(session, digest_size=32).digest()).digest()
