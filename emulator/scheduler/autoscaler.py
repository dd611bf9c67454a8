"""How many containers a function needs: (policy, load, now) -> decision. Pure, so that a planner can ask it too."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """What the deployer asked for. Times are in seconds."""

    min_containers: int = 0
    max_containers: int = 1
    buffer_containers: int = 0
    target_concurrency: float = 1.0
    """Inputs (or requests) that one container is meant to work on at once."""
    scaledown_window: float = 60.0
    scaleup_window: float = 0.0
    """Unmet demand must last this long before a running function grows; scaling from zero never waits."""


@dataclass(frozen=True)
class Supply:
    """One container that takes, or will take, work of the current version."""

    task_id: str
    idle_since: float | None = None
    """When it last became idle; `None` while it starts or works."""


@dataclass(frozen=True)
class Load:
    """What a pool sees now. Containers that are leaving are not supply."""

    pending: int = 0
    running: int = 0
    supply: tuple[Supply, ...] = ()
    start_slots: int = 1
    """Containers that may be started at once by this machine."""
    not_before: float = 0.0
    """After failed boots: no start earlier than this."""
    unmet_since: float | None = None
    """Since when demand has exceeded supply without a break."""


@dataclass(frozen=True)
class Decision:
    start: int = 0
    stop: tuple[str, ...] = ()
    wanted: int = 0
    wake_at: float | None = None
    """When the answer may change though nothing happens."""


def wanted_containers(policy: Policy, load: Load) -> int:
    """Containers for this load: between the minimum and the maximum, with the buffer while there is demand."""
    demand = load.pending + load.running
    needed = 0
    if demand:
        needed = max(1, math.ceil(demand / policy.target_concurrency)) + policy.buffer_containers
    return min(policy.max_containers, max(policy.min_containers, needed))


def decide(policy: Policy, load: Load, now: float) -> Decision:
    """What to start and to stop now. Never both; nothing is stopped that is not idle."""
    wanted = wanted_containers(policy, load)
    missing = wanted - len(load.supply)
    if missing > 0:
        blocked_until = max(load.not_before, _sustained_at(policy, load, now))
        if now < blocked_until:
            return Decision(wanted=wanted, wake_at=blocked_until)
        return Decision(start=min(missing, max(0, load.start_slots)), wanted=wanted)
    return _stop_surplus(policy, load, wanted, now)


def _sustained_at(policy: Policy, load: Load, now: float) -> float:
    if not policy.scaleup_window or not load.supply or len(load.supply) < policy.min_containers:
        return now
    return (now if load.unmet_since is None else load.unmet_since) + policy.scaleup_window


def _stop_surplus(policy: Policy, load: Load, wanted: int, now: float) -> Decision:
    surplus = len(load.supply) - wanted
    over_maximum = len(load.supply) - policy.max_containers
    idle = sorted(
        ((since, task_id) for task_id, since in ((s.task_id, s.idle_since) for s in load.supply) if since is not None)
    )
    stop: list[str] = []
    wake_at: float | None = None
    for since, task_id in idle[: max(0, surplus)]:
        expires = since + policy.scaledown_window
        if len(stop) < over_maximum or now >= expires:
            stop.append(task_id)
        else:
            wake_at = expires if wake_at is None else min(wake_at, expires)
    return Decision(stop=tuple(stop), wanted=wanted, wake_at=wake_at)
