"""docs/emulator-support.md says what the tests show: each row has a test, and each test is of a row."""

from __future__ import annotations

from collections import Counter

from tests.parity.support_table import SECTIONS, SUPPORT, rows, written
from tests.parity.threads import NOT_ON_THREADS


def test_every_row_has_a_test() -> None:
    tested = {row for test in written() for row in test.rows}
    assert [(row.section, row.name) for row in rows() if (row.section, row.name) not in tested] == []


def test_every_test_is_of_a_row() -> None:
    told = {(row.section, row.name) for row in rows()}
    assert [(test.where, row) for test in written() for row in test.rows or (None,) if row not in told] == []


def test_a_row_stands_once_in_a_known_section_and_says_how_far_it_is_supported() -> None:
    found = rows()
    assert {row.section for row in found} <= set(SECTIONS)
    assert [name for name, count in Counter((row.section, row.name) for row in found).items() if count > 1] == []
    assert [row for row in found if row.support not in SUPPORT] == []


def test_what_is_not_wholly_supported_says_what_differs() -> None:
    assert [row for row in rows() if row.support != "supported" and not row.text] == []


def test_what_reaches_into_the_emulator_is_marked_as_such() -> None:
    assert [test.where for test in written() if test.uses_emulator and not test.emulator_only] == []


def test_what_is_skipped_on_threads_is_there_to_be_skipped() -> None:
    names = {test.where for test in written()}
    assert [name for name in NOT_ON_THREADS if name not in names] == []
