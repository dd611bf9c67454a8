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
    starting: bool = False
    active: int = 0
    """Inputs (or requests) that it works on."""


@dataclass(frozen=True)
class Load:
    """What a pool sees now."""

    pending: int = 0
    running: int = 0
    supply: tuple[Supply, ...] = ()
    leaving: int = 0
    """Containers of the current version that take nothing new and are still there: the maximum counts them."""
    start_slots: int = 1
    """Containers that may be started at once by this machine."""
    slots_at: float | None = None
    """When it may start more at the latest."""
    not_before: float = 0.0
    """After failed boots and crashes: no start earlier than this."""
    unmet_since: float | None = None
    """Since when demand has exceeded supply without a break: what `unmet_since` said after the last decision."""


@dataclass(frozen=True)
class Decision:
    start: int = 0
    stop: tuple[str, ...] = ()
    wanted: int = 0
    wake_at: float | None = None
    """When the answer may change though nothing happens."""
    waits_for_place: bool = False
    """It would start more, if this machine let it."""


def wanted_containers(policy: Policy, load: Load) -> int:
    """Containers for this load: between the minimum and the maximum, with the buffer while there is demand."""
    demand = load.pending + load.running
    needed = 0
    if demand:
        needed = max(1, math.ceil(demand / policy.target_concurrency)) + policy.buffer_containers
    return min(policy.max_containers, max(policy.min_containers, needed))


def decide(policy: Policy, load: Load, now: float) -> Decision:
    """What to start and to stop now: never both, and what is stopped is idle unless there is more than the maximum."""
    wanted = wanted_containers(policy, load)
    missing = wanted - len(load.supply)
    if missing > 0:
        return _grow(policy, load, wanted, now)
    return _shrink(policy, load, wanted, now)


def unmet_since(load: Load, decision: Decision, now: float) -> float | None:
    """What the next load has to say of unmet demand."""
    if decision.wanted <= len(load.supply):
        return None
    return now if load.unmet_since is None else load.unmet_since


def _grow(policy: Policy, load: Load, wanted: int, now: float) -> Decision:
    blocked_until = max(load.not_before, _sustained_at(policy, load, now))
    if now < blocked_until:
        return Decision(wanted=wanted, wake_at=blocked_until)
    room = policy.max_containers - load.leaving
    lacking = max(0, min(wanted, room) - len(load.supply))
    start = min(lacking, max(0, load.start_slots))
    if start == lacking:
        return Decision(start=start, wanted=wanted)
    # What it has started puts it behind the others: it stands in line anew when it is asked again.
    return Decision(start=start, wanted=wanted, wake_at=load.slots_at, waits_for_place=not start)


def _sustained_at(policy: Policy, load: Load, now: float) -> float:
    if not policy.scaleup_window or not load.supply or len(load.supply) < policy.min_containers:
        return now
    return (now if load.unmet_since is None else load.unmet_since) + policy.scaleup_window


def _shrink(policy: Policy, load: Load, wanted: int, now: float) -> Decision:
    surplus = len(load.supply) - wanted
    over_maximum = len(load.supply) - policy.max_containers
    stop: list[str] = []
    wake_at: float | None = None
    for supply in sorted(load.supply, key=_usefulness)[:surplus]:
        if len(stop) < over_maximum:
            stop.append(supply.task_id)
        elif supply.idle_since is None:
            break
        elif now >= (expires := supply.idle_since + policy.scaledown_window):
            stop.append(supply.task_id)
        else:
            wake_at = expires
            break
    return Decision(stop=tuple(stop), wanted=wanted, wake_at=wake_at)


def _usefulness(supply: Supply) -> tuple[int, float]:
    """The longest idle first, then what starts, then what works on least."""
    if supply.idle_since is not None:
        return (0, supply.idle_since)
    return (1, 0) if supply.starting else (2, supply.active)
