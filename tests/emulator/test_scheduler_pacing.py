"""Which writes of a container wait for their answer."""

from __future__ import annotations

from emulator.scheduler.pacing import HOLD, IN_A_ROW, PAUSE, Pacing


def holds(*gaps: float) -> list[float]:
    """How long each write is held, the first at 0 and the others after these gaps."""
    pacing, now = Pacing(), 0.0
    found = [pacing.hold(now)]
    for gap in gaps:
        now += gap
        found.append(pacing.hold(now))
    return found


def test_an_answer_of_a_few_pieces_waits_for_nothing() -> None:
    assert holds(*[0.0] * (IN_A_ROW - 1)) == [0.0] * IN_A_ROW


def test_a_writer_without_a_pause_is_held_so_that_it_gathers() -> None:
    assert holds(*[0.001] * 6) == [0.0] * IN_A_ROW + [HOLD] * 4


def test_a_writer_who_pauses_is_never_held() -> None:
    assert set(holds(*[2 * PAUSE] * 20)) == {0.0}


def test_a_pause_begins_the_count_again() -> None:
    assert holds(0.001, 0.001, 0.001, 2 * PAUSE, 0.001, 0.001, 0.001)[-4:] == [0.0, 0.0, 0.0, HOLD]
