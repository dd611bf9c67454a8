"""The autoscaler: from a policy, a load and the time to what is started and stopped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.scheduler.autoscaler import Decision, Load, Policy, Supply, decide, wanted_containers

NOW = 1000.0


def busy(count: int) -> tuple[Supply, ...]:
    return tuple(Supply(f"busy-{n}") for n in range(count))


def idle(*ages: float) -> tuple[Supply, ...]:
    return tuple(Supply(f"idle-{age:g}", idle_since=NOW - age) for age in ages)


@pytest.mark.parametrize(
    ("what", "policy", "load", "expected"),
    [
        ("nothing to do, nothing there", Policy(), Load(), Decision()),
        ("one input starts one container", Policy(), Load(pending=1), Decision(start=1, wanted=1)),
        (
            "inputs share a container up to its target",
            Policy(max_containers=9, target_concurrency=10),
            Load(pending=11, start_slots=9),
            Decision(start=2, wanted=2),
        ),
        ("no more than the maximum", Policy(max_containers=3), Load(pending=50, start_slots=9), Decision(3, (), 3)),
        (
            "no more at once than the machine may start",
            Policy(max_containers=9),
            Load(pending=9, start_slots=2),
            Decision(start=2, wanted=9),
        ),
        (
            "the minimum without any demand",
            Policy(min_containers=2, max_containers=2),
            Load(start_slots=9),
            Decision(2, (), 2),
        ),
        (
            "the buffer only while there is demand",
            Policy(max_containers=9, buffer_containers=2),
            Load(pending=1, start_slots=9),
            Decision(start=3, wanted=3),
        ),
        ("no buffer without demand", Policy(max_containers=9, buffer_containers=2), Load(), Decision()),
        (
            "a target of infinity still needs one",
            Policy(target_concurrency=float("inf")),
            Load(pending=7),
            Decision(1, (), 1),
        ),
        ("containers that start count", Policy(max_containers=9), Load(pending=1, supply=busy(1)), Decision(wanted=1)),
        (
            "after failed boots it waits",
            Policy(),
            Load(pending=1, not_before=NOW + 5),
            Decision(wanted=1, wake_at=NOW + 5),
        ),
        (
            "an idle container stays for the window",
            Policy(scaledown_window=60),
            Load(supply=idle(59)),
            Decision(wake_at=NOW + 1),
        ),
        ("then it leaves", Policy(scaledown_window=60), Load(supply=idle(60)), Decision(stop=("idle-60",))),
        (
            "of several the one that has been idle longest",
            Policy(min_containers=1, max_containers=3, scaledown_window=60),
            Load(supply=idle(70, 90)),
            Decision(stop=("idle-90",), wanted=1),
        ),
        ("a busy one never leaves", Policy(), Load(running=1, supply=busy(1)), Decision(wanted=1)),
        (
            "above a lowered maximum idle ones leave at once",
            Policy(max_containers=1, scaledown_window=60),
            Load(running=1, supply=(*busy(1), *idle(1))),
            Decision(stop=("idle-1",), wanted=1),
        ),
        (
            "then those that start, then those that work on least, which finish what they have",
            Policy(max_containers=1),
            Load(
                running=5, supply=(Supply("much", active=3), Supply("little", active=2), Supply("new", starting=True))
            ),
            Decision(stop=("new", "little"), wanted=1),
        ),
        (
            "those that leave are counted against the maximum until they are gone",
            Policy(max_containers=3),
            Load(pending=5, leaving=2, start_slots=9),
            Decision(start=1, wanted=3),
        ),
        (
            "a maximum that those who leave fill waits for them",
            Policy(max_containers=1),
            Load(pending=5, leaving=1, start_slots=9),
            Decision(wanted=1),
        ),
        (
            "when the machine starts too many already it looks again once there may be a place",
            Policy(max_containers=9),
            Load(pending=2, start_slots=0, slots_at=NOW + 2),
            Decision(wanted=2, wake_at=NOW + 2, waits_for_place=True),
        ),
        (
            "the buffer is on top of what works",
            Policy(min_containers=2, max_containers=9, buffer_containers=1, scaleup_window=0),
            Load(running=2, supply=busy(2), start_slots=9),
            Decision(start=1, wanted=3),
        ),
        (
            "the minimum may be the buffer",
            Policy(min_containers=2, max_containers=9, buffer_containers=1),
            Load(running=1, supply=(*busy(1), *idle(1000)), start_slots=9),
            Decision(wanted=2),
        ),
        (
            "a running function grows after sustained demand only",
            Policy(max_containers=9, scaleup_window=30),
            Load(pending=3, running=1, supply=busy(1), unmet_since=NOW - 10),
            Decision(wanted=4, wake_at=NOW + 20),
        ),
        (
            "from zero it never waits for that",
            Policy(max_containers=9, scaleup_window=30),
            Load(pending=1),
            Decision(start=1, wanted=1),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_decides(what: str, policy: Policy, load: Load, expected: Decision) -> None:
    assert decide(policy, load, NOW) == expected


policies = st.builds(
    lambda low, extra, buffer, target, window: Policy(
        min_containers=low,
        max_containers=low + extra,
        buffer_containers=buffer,
        target_concurrency=target,
        scaledown_window=window,
    ),
    st.integers(0, 5),
    st.integers(1, 20),
    st.integers(0, 5),
    st.floats(0.5, 100),
    st.floats(0, 600),
)
supplies = st.lists(st.one_of(st.booleans(), st.floats(0, NOW)), max_size=30).map(
    lambda kinds: tuple(
        Supply(f"ta-{n}", starting=kind, active=int(not kind)) if isinstance(kind, bool) else Supply(f"ta-{n}", kind)
        for n, kind in enumerate(kinds)
    )
)
loads = st.builds(
    Load,
    pending=st.integers(0, 200),
    running=st.integers(0, 200),
    supply=supplies,
    leaving=st.integers(0, 10),
    start_slots=st.integers(0, 30),
    slots_at=st.floats(NOW, 2 * NOW, exclude_min=True),
    not_before=st.floats(0, 2 * NOW),
)


@given(policies, loads)
def test_supply_is_never_taken_above_the_maximum_nor_below_the_minimum(policy: Policy, load: Load) -> None:
    decision = decide(policy, load, NOW)
    if decision.start:
        assert len(load.supply) + load.leaving + decision.start <= policy.max_containers
    if decision.stop:
        assert len(load.supply) - len(decision.stop) >= policy.min_containers
    assert len(load.supply) - len(decision.stop) <= max(policy.max_containers, 0)


@given(policies, loads)
def test_only_idle_containers_or_those_above_the_maximum_are_stopped_and_never_beside_a_start(
    policy: Policy, load: Load
) -> None:
    decision = decide(policy, load, NOW)
    idle_ids = {supply.task_id for supply in load.supply if supply.idle_since is not None}
    over = max(0, len(load.supply) - policy.max_containers)
    assert len(set(decision.stop) - idle_ids) <= over
    assert len(decision.stop) >= over
    assert not (decision.start and decision.stop)


@given(policies, loads)
def test_what_was_decided_holds_until_something_happens(policy: Policy, load: Load) -> None:
    decision = decide(policy, load, NOW)
    started = tuple(Supply(f"new-{n}") for n in range(decision.start))
    remaining = tuple(supply for supply in load.supply if supply.task_id not in decision.stop)
    after = Load(
        pending=load.pending,
        running=load.running,
        supply=remaining + started,
        leaving=load.leaving + len(decision.stop),
        start_slots=load.start_slots - decision.start,
        not_before=load.not_before,
    )
    again = decide(policy, after, NOW)
    assert not again.stop
    assert again.start <= max(0, load.start_slots - decision.start)
    if len(after.supply) == wanted_containers(policy, after):
        assert not again.start


@given(policies, loads)
def test_when_nothing_is_due_it_says_when_to_look_again(policy: Policy, load: Load) -> None:
    decision = decide(policy, load, NOW)
    if decision.wake_at is not None:
        assert decision.wake_at > NOW
        later = decide(policy, load, decision.wake_at)
        assert later.start or later.stop or not load.start_slots or load.leaving
