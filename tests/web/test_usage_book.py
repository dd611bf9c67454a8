"""Two containers, compactions and a table that loses answers, in every order: nothing is lost and nothing doubled."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.metering import Prices
from infra.usage import BASE, DAY_SECONDS, NOTHING, Amounts, Fold, Row, Slot, Tariff, fold, money, totals
from web.usage_book import MOST_DAYS_LATE, Book

if TYPE_CHECKING:
    from collections.abc import Sequence

TARIFF = Tariff.of(Prices.model_validate({"prompt_tokens": "0.15", "completion_tokens": "0.6"}))
NOON = 1_764_072_000.0
"""2025-11-25 12:00."""


def add(book: Book, account: str = "key:a", *, time: float = NOON, prompt: int = 1) -> int:
    return book.add(account, "m", TARIFF, time, prompt=prompt, cached=0, completion=2, seconds=0.5)


class Shelf:
    """What the table does, as far as this is about it: whole rows, and the conditions that they are written under."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Slot, str], Row] = {}

    def put(self, row: Row) -> Row | None:
        """What is in the way."""
        before = self.rows.get((row.slot, row.writer))
        if before is not None and (before.folded or before.version > row.version):
            return before
        self.rows[row.slot, row.writer] = replace(row, name=None)
        return None

    def fold(self, step: Fold) -> bool:
        before = self.rows.get((step.base.slot, BASE))
        if (before.version if before else 0) != step.base.version - 1:
            return False
        for row in step.folded:
            if self.rows.get((row.slot, row.writer)) != replace(row, folded=0):
                return False
        for row in (step.base, *step.folded):
            self.rows[row.slot, row.writer] = row
        return True

    def read(self) -> list[Row]:
        return sorted(self.rows.values(), key=lambda row: (row.slot, row.writer))


class Container:
    """It writes as a meter does. Writes that were sent and not answered may still come, once, at any time."""

    def __init__(self, name: str, shelf: Shelf) -> None:
        self.book = Book(name)
        self.shelf = shelf
        self.delayed: list[Row] = []

    def flush(self, fate: str) -> None:
        """`fate`: whether the write is answered, done and not answered, or delayed."""
        entries = self.book.entries()
        if fate == "delayed":
            self.delayed += [entry.row for entry in entries]
            return
        found = {entry.row: self.shelf.put(entry.row) for entry in entries}
        if fate == "answered":
            self.book.wrote(entries, {row: there for row, there in found.items() if there is not None})


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([0, 1]), st.integers(1, 5)),
        st.tuples(st.just("flush"), st.sampled_from([0, 1]), st.sampled_from(["answered", "lost", "delayed"])),
        st.tuples(st.just("arrive"), st.sampled_from([0, 1]), st.integers(0, 9)),
        st.tuples(st.sampled_from(["look", "fold"]), st.sampled_from([0, 1]), st.integers(1, 2)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_what_was_used_is_what_the_table_says_in_the_end_whatever_happens(
    steps: Sequence[tuple[str, int, object]],
) -> None:
    shelf = Shelf()
    containers = [Container("a", shelf), Container("b", shelf)]
    looked: list[Fold | None] = [None, None]
    used = spent = 0
    for step, who, what in steps:
        container = containers[who]
        match step, what:
            case "add", int(prompt):
                used += prompt
                spent += add(container.book, prompt=prompt)
            case "flush", str(fate):
                container.flush(fate)
            case "arrive", int(which) if container.delayed:
                shelf.put(container.delayed.pop(which % len(container.delayed)))
            case "look", int(most):  # two compactions, each of which may act on what it saw long ago
                looked[who] = fold(shelf.read(), most=most)
            case "fold", _ if (ready := looked[who]) is not None:
                shelf.fold(ready)
        seen = shelf.read()
        assert sum(amounts.prompt_tokens for amounts in totals(seen).values()) <= used
        mine = containers[0].book.spent("key:a", "2025-11", seen)
        assert mine <= spent, "a budget is never charged twice"
    for container in containers:
        for _ in range(3):
            container.flush("answered")
        for row in container.delayed:
            shelf.put(row)
        assert not container.book.unwritten
    while (ready := fold(shelf.read(), most=2)) is not None:
        assert sum(amounts.cost for amounts in totals(shelf.read()).values()) == spent
        assert shelf.fold(ready)
    for seen in (shelf.read(), [row for row in shelf.read() if not row.folded]):
        (amounts,) = totals(seen).values() or [NOTHING]
        assert (amounts.prompt_tokens, amounts.cost) == (used, spent)
    assert containers[0].book.spent("key:a", "2025-11", shelf.read()) == spent


def test_a_read_that_a_fold_overtakes_counts_everything_once() -> None:
    slot = Slot("key:a", "2025-11-25", "m")
    rows = [Row(slot, name, Amounts(requests=1), version=4) for name in "ab"]
    step = fold(rows, most=9)
    assert step is not None
    before, after = [*rows], [step.base, *step.folded]
    assert totals(before)[slot].requests == totals(after)[slot].requests == 2
    overtaken = [before[0], after[2]]  # no base was there when it was looked for
    assert totals(overtaken)[slot].requests == 2


def test_what_could_not_be_written_for_days_is_given_up_before_the_marks_of_a_fold_are_gone() -> None:
    book = Book("a")
    add(book)
    for days in range(1, MOST_DAYS_LATE + 1):
        assert book.forget(NOON + days * DAY_SECONDS, late=True) == []
    (lost,) = book.forget(NOON + (MOST_DAYS_LATE + 1) * DAY_SECONDS, late=True)
    assert (lost.amounts().requests, book.unwritten) == (1, 0)


def test_yesterdays_counts_are_forgotten_once_they_are_written() -> None:
    book = Book("a")
    add(book)
    add(book, time=NOON + DAY_SECONDS)
    entries = book.entries()
    book.wrote(entries, {})
    book.forget(NOON + DAY_SECONDS, late=True)
    add(book)
    (again,) = book.entries()
    assert again.row.amounts.requests == 1, "a row of its own: the one that was forgotten stays as it is"
    assert again.row.writer not in {entry.row.writer for entry in entries}


@pytest.mark.parametrize(
    ("cost", "told"),
    [(0, "0"), (1, "0.000000000001"), (10**12, "1"), (25 * 10**11, "2.5"), (10**30 + 1, f"{10**18}.000000000001")],
)
def test_money_is_told_exactly(cost: int, told: str) -> None:
    assert money(cost) == told


def test_costs_are_exact_for_any_price() -> None:
    prices = {
        "prompt_tokens": "0.000001",
        "cached_tokens": 0,
        "completion_tokens": 12.345678,
        "engine_seconds": "0.000001",
    }
    tariff = Tariff.of(Prices.model_validate(prices))
    assert tariff.cost(3, 1, 0, 0) == 2
    assert money(tariff.cost(0, 0, 10**6, 10**6)) == "12.345679"
    assert Tariff.of(Prices.model_validate({"prompt_tokens": 2})).cached == 2 * 10**6, "as the prompt's unless set"
