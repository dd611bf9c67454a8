"""What a Queue holds, next to plain lists that do the same."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emulator.storage.queues import MAX_ITEMS, MAX_PARTITIONS, Item, QueueContents, QueueFullError, Taken
from emulator.storage.rows import Key, Value

KEYS = st.sampled_from([b"", b"p"])


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now, self.count = 1000.0, 0
        self.model: dict[bytes, list[int]] = {b"": [], b"p": []}
        self.expiry: dict[bytes, float] = {}
        self.out: list[tuple[bytes, Taken]] = []
        self.kept: dict[Key, Value] = {}
        self.contents = self.listened(QueueContents())

    def listened(self, contents: QueueContents) -> QueueContents:
        contents.changed = self.on_change
        return contents

    def on_change(self, key: Key, value: Value | None) -> None:
        if value is None:
            del self.kept[key]
        else:
            self.kept[key] = value

    def living(self, key: bytes) -> list[int]:
        if self.expiry.get(key, 0.0) <= self.now:
            self.model[key] = []
        return self.model[key]

    @rule(key=KEYS, count=st.integers(0, 3), ttl=st.sampled_from([10.0, 100.0]))
    def put(self, key: bytes, count: int, ttl: float) -> None:
        numbers = list(range(self.count, self.count + count))
        self.count += count
        self.contents.put(key, [str(number).encode() for number in numbers], ttl=ttl, now=self.now)
        if numbers:
            self.model[key] = [*self.living(key), *numbers]
            self.expiry[key] = self.now + ttl

    @rule(key=KEYS, count=st.integers(1, 3))
    def take(self, key: bytes, count: int) -> None:
        taken = self.contents.take(key, count, self.now)
        assert [int(item.value) for item in taken.items] == self.living(key)[:count]
        self.model[key] = self.model[key][count:]
        if taken.items:
            self.out.append((key, taken))

    @rule(which=st.integers(0, 5))
    def put_back(self, which: int) -> None:
        """In whatever order, it is in its old place again."""
        if which >= len(self.out):
            return
        key, taken = self.out.pop(which)
        self.contents.put_back(key, taken, self.now)
        if taken.expires_at > self.now:
            if not self.living(key):
                self.expiry[key] = taken.expires_at
            self.model[key] = sorted([*self.model[key], *(int(item.value) for item in taken.items)])

    @rule(key=KEYS)
    def clear(self, key: bytes) -> None:
        self.contents.clear(key)
        self.model[key] = []

    @rule()
    def clear_all(self) -> None:
        self.contents.clear_all()
        self.model = {key: [] for key in self.model}

    @rule(seconds=st.sampled_from([1.0, 10.0, 90.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """What was told of its changes makes the same again."""
        assert dict(self.contents.rows()) == self.kept
        self.contents = self.listened(QueueContents.from_rows(self.kept.items()))
        self.out.clear()

    @invariant()
    def holds_the_same(self) -> None:
        for key in self.model:
            assert [int(item.value) for item in self.contents.after(key, 0, self.now)] == self.living(key)
            assert self.contents.count(key, self.now) == len(self.model[key])
        assert self.contents.total(self.now) == sum(map(len, self.model.values()))
        assert self.contents.partitions(self.now) == sum(map(bool, self.model.values()))


QueueMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_a_queue_gives_what_was_put_first_of_each_partition_until_that_expires = QueueMachine.TestCase


def test_a_partition_takes_5000_items_of_64_mib_in_all_or_nothing_of_them() -> None:
    queue = QueueContents()
    queue.put(b"", [b""] * (MAX_ITEMS - 1), ttl=9, now=0)
    with pytest.raises(QueueFullError, match="5,000 items: 4,999 are there"):
        queue.put(b"", [b"", b""], ttl=9, now=0)
    assert queue.count(b"", 0) == MAX_ITEMS - 1
    queue.put(b"large", [bytes(1 << 20)] * 64, ttl=9, now=0)
    with pytest.raises(QueueFullError, match=r"64 MiB: 64\.0 are there"):
        queue.put(b"large", [b"1"], ttl=9, now=0)
    queue.take(b"large", 1, 0)
    queue.put(b"large", [b"1"], ttl=9, now=0)


@pytest.mark.slow
def test_a_queue_takes_100_000_partitions_and_more_once_some_have_expired() -> None:
    queue = QueueContents()
    for number in range(MAX_PARTITIONS):
        queue.put(b"%d" % number, [b""], ttl=1 if number == 7 else 9, now=0)
    with pytest.raises(QueueFullError, match="100,000 partitions"):
        queue.put(b"more", [b""], ttl=9, now=0)
    queue.put(b"5", [b""], ttl=9, now=0)
    queue.put(b"more", [b""], ttl=9, now=1)


def test_what_comes_after_an_item_stays_where_it_is() -> None:
    queue = QueueContents()
    queue.put(b"", [b"a", b"b", b"c"], ttl=9, now=0)
    first, *others = queue.after(b"", 0, 0)
    assert (first.value, [item.value for item in others]) == (b"a", [b"b", b"c"])
    assert queue.take(b"", 2, 0).items == [first, others[0]]
    assert queue.after(b"", first.entry_id, 0) == [Item(others[1].entry_id, b"c")]
