"""What a Dict holds, next to a plain dictionary that does the same."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emulator.storage.dicts import LIFETIME, TOLD_AGAIN, DictContents
from emulator.storage.rows import Key, Value

KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.binary(max_size=2)


class DictMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.model: dict[bytes, tuple[bytes, float]] = {}
        self.kept: dict[Key, Value] = {}
        self.contents = self.listened(DictContents())

    def listened(self, contents: DictContents) -> DictContents:
        contents.changed = self.on_change
        return contents

    def on_change(self, key: Key, value: Value | None) -> None:
        if value is None:
            del self.kept[key]
        else:
            self.kept[key] = value

    def living(self) -> dict[bytes, bytes]:
        return {key: value for key, (value, used_at) in self.model.items() if self.now - used_at < LIFETIME}

    @rule(key=KEYS, value=VALUES, unless_there=st.booleans())
    def put(self, key: bytes, value: bytes, unless_there: bool) -> None:
        there = self.living().get(key)
        put = self.contents.put(key, value, self.now, unless_there=unless_there)
        assert put == (there is None or not unless_there)
        self.model[key] = (value if put else self.model[key][0], self.now)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        there = self.living().get(key)
        assert self.contents.get(key, self.now) == there
        if there is not None:
            self.model[key] = (there, self.now)

    @rule(key=KEYS)
    def pop(self, key: bytes) -> None:
        assert self.contents.pop(key, self.now) == self.living().get(key)
        self.model.pop(key, None)

    @rule()
    def items(self) -> None:
        assert dict(self.contents.items(self.now)) == self.living()
        self.model = {key: (value, self.now) for key, value in self.living().items()}

    @rule()
    def clear(self) -> None:
        self.contents.clear()
        self.model.clear()

    @rule(seconds=st.sampled_from([1.0, TOLD_AGAIN, LIFETIME / 2, LIFETIME]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(from_what_was_told=st.booleans())
    def restart(self, from_what_was_told: bool) -> None:
        """What was told of its changes makes the same again, as does what it tells of itself."""
        self.contents.count(self.now)
        rows = dict(self.contents.rows())
        assert {key: row[0] for key, row in rows.items()} == {key: row[0] for key, row in self.kept.items()}
        for key, row in rows.items():
            assert isinstance(told := self.kept[key][1], float)
            assert isinstance(used_at := row[1], float)
            assert used_at - told < TOLD_AGAIN
        self.contents = self.listened(DictContents.from_rows((self.kept if from_what_was_told else rows).items()))
        if from_what_was_told:  # what was not told of is forgotten
            for (key,), (_, used_at) in self.kept.items():
                self.model[key] = (self.model[key][0], used_at)  # type: ignore[assignment,index]

    @invariant()
    def holds_as_much(self) -> None:
        assert self.contents.count(self.now) == len(self.living())


DictMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
test_a_dict_holds_what_was_put_there_for_7_days_after_its_last_use = DictMachine.TestCase


def test_a_value_that_is_read_every_hour_is_told_of_once_an_hour() -> None:
    contents, told = DictContents(), []
    contents.changed = lambda key, value: told.append((key, value))
    contents.put(b"k", b"v", 0.0)
    for minute in range(0, 121, 20):
        contents.get(b"k", minute * 60.0)
    assert told == [((b"k",), (b"v", at)) for at in (0.0, 3600.0, 7200.0)]
