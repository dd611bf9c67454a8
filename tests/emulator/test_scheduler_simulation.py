"""The autoscaler over time: its pure parts drive a simulated pool through whatever hypothesis thinks of.

What holds, always:
- never above the maximum, those that leave counted; where the maximum is lowered, no start until there is room;
- never below the minimum, but for crashes' back-off, the machine's limit on starts, and those that still leave;
- the buffer is there while there is demand;
- no thrash: after an idle container was told to leave, none is started until something new has come: an input, the loss
  of a container, or another policy;
- every input is served exactly once, and in the end only the minimum is left.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.scheduler.autoscaler import Load, Policy, Supply, decide, unmet_since
from emulator.scheduler.boots import Boots
from emulator.scheduler.limiter import StartLimiter

BOOT = 0.5
START_LIMIT = 2


@dataclass
class Box:
    """A simulated container."""

    task_id: str
    ready_at: float
    idle_since: float | None = None
    work: dict[int, float] = field(default_factory=dict)
    """By input, when it will be finished."""
    gone_at: float | None = None
    """Set once it has been told to leave and has nothing to do."""
    leaving: bool = False
    ready: bool = False
    served_at: float = 0.0


class World:
    """A pool without processes and without a clock: time is a number."""

    def __init__(self, policy: Policy, *, leave_seconds: float) -> None:
        self.now = 100.0
        self.policy = policy
        self.leave_seconds = leave_seconds
        self.boxes: dict[str, Box] = {}
        self.queue: deque[tuple[int, float]] = deque()
        self.served: dict[int, int] = {}
        self.durations: dict[int, float] = {}
        self.boots, self.limiter = Boots(), StartLimiter(START_LIMIT)
        self.unmet: float | None = None
        self.wake_at: float | None = None
        self.made = 0
        self.news = True
        """Something has come since an idle container was last told to leave."""
        self.tick()

    # What happens to it

    def arrive(self, count: int, seconds: float) -> None:
        for _ in range(count):
            number = len(self.durations)
            self.durations[number] = seconds
            self.queue.append((number, seconds))
        self.news = True
        self.tick()

    def crash(self, which: int) -> None:
        if not self.boxes:
            return
        box = list(self.boxes.values())[which % len(self.boxes)]
        if box.ready and not box.leaving:
            served = [other.served_at for other in self.boxes.values()]
            self.boots.died(self.now, ready_at=box.ready_at, served_at=served)
        elif not box.ready:
            self.boots.failed(self.now, None, "")
        self._remove(box)
        self.queue.extendleft((number, self.durations[number]) for number in reversed(box.work))
        self.news = True
        self.tick()

    def update(self, policy: Policy) -> None:
        self.policy = policy
        self.news = True
        self.tick()

    def advance(self, seconds: float) -> None:
        ends = self.now + seconds
        while (moment := self._next_moment()) is not None and moment <= ends:
            self.now = max(self.now, moment)
            self._happen()
            self.tick()
        self.now = ends
        self.tick()

    def _next_moment(self) -> float | None:
        moments = [] if self.wake_at is None else [self.wake_at]
        for box in self.boxes.values():
            moments += [*box.work.values(), *([] if box.ready else [box.ready_at])]
            moments += [] if box.gone_at is None else [box.gone_at]
        return min(moments, default=None)

    def _happen(self) -> None:
        for box in list(self.boxes.values()):
            if not box.ready and box.ready_at <= self.now:
                box.ready, box.idle_since = True, self.now
                self.boots.succeeded()
                self.limiter.end(box.task_id)
            for number in [number for number, at in box.work.items() if at <= self.now]:
                del box.work[number]
                self.served[number] = self.served.get(number, 0) + 1
                box.served_at = self.now
                if not box.work:
                    box.idle_since = self.now
            if box.leaving and not box.work and box.gone_at is None:
                box.gone_at = self.now + self.leave_seconds
            if box.gone_at is not None and box.gone_at <= self.now:
                self._remove(box)

    def _remove(self, box: Box) -> None:
        del self.boxes[box.task_id]
        self.limiter.end(box.task_id)

    # What it decides

    def supply(self) -> list[Box]:
        return [box for box in self.boxes.values() if not box.leaving]

    def load(self) -> Load:
        supply = self.supply()
        return Load(
            pending=len(self.queue),
            running=sum(len(box.work) for box in supply),
            supply=tuple(
                Supply(box.task_id, box.idle_since, starting=not box.ready, active=len(box.work)) for box in supply
            ),
            leaving=len(self.boxes) - len(supply),
            start_slots=self.limiter.free("f", self.now),
            slots_at=self.limiter.frees_at(),
            not_before=self.boots.not_before,
            unmet_since=self.unmet,
        )

    def tick(self) -> None:
        self._hand_out()
        for _ in range(100):
            load = self.load()
            decision = decide(self.policy, load, self.now)
            self.unmet = unmet_since(load, decision, self.now)
            self.wake_at = decision.wake_at
            assert self.wake_at is None or self.wake_at > self.now
            if not decision.start and not decision.stop:
                self._check(load)
                return
            self._start(decision.start)
            for task_id in decision.stop:
                self._stop(self.boxes[task_id])
        raise AssertionError("it never comes to rest")

    def _hand_out(self) -> None:
        capacity = math.ceil(self.policy.target_concurrency)
        for box in sorted(self.supply(), key=lambda box: -len(box.work)):
            while box.ready and self.queue and len(box.work) < capacity:
                number, seconds = self.queue.popleft()
                box.work[number], box.idle_since = self.now + seconds, None

    def _start(self, count: int) -> None:
        if count:
            assert self.news, "started though nothing has come since an idle one was told to leave"
        for _ in range(count):
            self.made += 1
            box = Box(f"ta-{self.made}", self.now + BOOT)
            self.boxes[box.task_id] = box
            self.limiter.begin(box.task_id, self.now)
            assert len(self.boxes) <= self.policy.max_containers, "started above the maximum"

    def _stop(self, box: Box) -> None:
        if len(self.supply()) <= self.policy.max_containers:
            assert not box.work, "told one to leave that works"
            assert box.idle_since is not None
            assert self.now - box.idle_since >= self.policy.scaledown_window - 1e-6
            self.news = False
        box.leaving = True
        if not box.ready:
            self._remove(box)
        elif not box.work:
            box.gone_at = self.now + self.leave_seconds

    def _check(self, load: Load) -> None:
        """What holds whenever it has come to rest."""
        supply = len(load.supply)
        held_back = (
            self.boots.not_before > self.now
            or not load.start_slots
            or supply + load.leaving >= self.policy.max_containers
        )
        assert supply <= self.policy.max_containers
        if held_back:
            return
        assert supply >= self.policy.min_containers
        if load.pending or load.running:
            needed = math.ceil((load.pending + load.running) / self.policy.target_concurrency)
            assert supply >= min(self.policy.max_containers, needed + self.policy.buffer_containers)


def policies(scaleup_window: float = 0.0) -> st.SearchStrategy[Policy]:
    return st.builds(
        lambda low, extra, buffer, target, window: Policy(
            min_containers=low,
            max_containers=low + extra,
            buffer_containers=buffer,
            target_concurrency=target,
            scaledown_window=window,
            scaleup_window=scaleup_window,
        ),
        st.integers(0, 2),
        st.integers(1, 5),
        st.integers(0, 2),
        st.sampled_from([1.0, 1.5, 3.0]),
        st.sampled_from([2.0, 10.0]),
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 8), st.sampled_from([0.01, 0.7, 5.0])),
        st.tuples(st.just("advance"), st.sampled_from([0.05, 0.6, 3.0, 3.0, 30.0])),
        st.tuples(st.just("crash"), st.integers(0, 7)),
        st.tuples(st.just("update"), policies()),
    ),
    max_size=25,
)


@settings(max_examples=100)
@given(policies(), steps, st.sampled_from([0.0, 20.0]))
def test_whatever_comes_the_pool_keeps_to_its_policy_and_serves_every_input_once(
    policy: Policy, steps: list[tuple[object, ...]], leave_seconds: float
) -> None:
    world = World(policy, leave_seconds=leave_seconds)
    for name, *arguments in steps:
        getattr(world, str(name))(*arguments)
    world.advance(1000)
    assert not world.queue
    assert world.served == dict.fromkeys(world.durations, 1)
    assert len(world.boxes) == world.policy.min_containers
    world.update(replace(world.policy, min_containers=0))
    world.advance(1000)
    assert not world.boxes


@settings(max_examples=30)
@given(policies(scaleup_window=5.0), steps)
def test_with_a_scaleup_window_too_every_input_is_served_once_and_it_scales_to_zero(
    policy: Policy, steps: list[tuple[object, ...]]
) -> None:
    world = World(replace(policy, min_containers=0), leave_seconds=0.0)
    world._check = lambda load: None  # type: ignore[method-assign]  # it is to lag behind
    for name, *arguments in steps:
        if name != "update":
            getattr(world, str(name))(*arguments)
    world.advance(1000)
    assert world.served == dict.fromkeys(world.durations, 1)
    assert not world.boxes


def test_a_steady_trickle_keeps_one_container_and_starts_no_other() -> None:
    world = World(Policy(max_containers=5, scaledown_window=2), leave_seconds=0.0)
    for _ in range(100):
        world.arrive(1, 0.5)
        world.advance(1.9)
    assert world.made == 1


def test_one_that_leaves_slowly_keeps_its_place_until_it_is_gone() -> None:
    world = World(Policy(max_containers=1, scaledown_window=2), leave_seconds=10.0)
    world.arrive(1, 0.1)
    world.advance(4.0)
    world.arrive(1, 0.1)
    assert [box.leaving for box in world.boxes.values()] == [True]
    world.advance(10.0)
    assert world.served == {0: 1, 1: 1}


def test_a_lowered_maximum_is_reached_though_there_is_always_more_to_do() -> None:
    world = World(Policy(max_containers=4), leave_seconds=0.0)
    world.arrive(200, 1.0)
    world.advance(5.0)
    world.update(Policy(max_containers=1))
    world.advance(1.0)
    assert len(world.boxes) == 1
    assert world.queue


def test_starts_of_a_storm_are_two_at_a_time() -> None:
    world = World(Policy(max_containers=10), leave_seconds=0.0)
    world.arrive(10, 60.0)
    starting = []
    for _ in range(10):
        starting.append(sum(not box.ready for box in world.boxes.values()))
        world.advance(BOOT)
    assert starting == [2, 2, 2, 2, 2, 0, 0, 0, 0, 0]


def test_one_that_keeps_dying_young_is_replaced_more_and_more_slowly() -> None:
    world = World(Policy(min_containers=1), leave_seconds=0.0)
    for _ in range(600):
        world.advance(1.0)
        if any(box.ready for box in world.boxes.values()):
            world.crash(0)
    # Without a back-off there would be hundreds; the gaps grow to thirty seconds.
    assert 15 < world.made < 35
