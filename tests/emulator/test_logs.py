"""What the terminal shows of what containers write."""

from __future__ import annotations

import io

from emulator.logs import ConsoleSink, LogLine


def written(*texts: str, sink: ConsoleSink, stream: str = "stdout") -> None:
    for text in texts:
        sink(LogLine(text, stream, "app", "f", "ta-0001"))  # type: ignore[arg-type]


def test_a_line_is_shown_once_it_is_whole() -> None:
    shown = io.StringIO()
    sink = ConsoleSink(shown)
    written("half", sink=sink)
    assert shown.getvalue() == ""
    written(" and half\nmore", sink=sink)
    assert shown.getvalue() == "f 0001 | half and half\n"


def test_a_last_line_without_an_end_is_shown_when_the_container_ends() -> None:
    shown = io.StringIO()
    sink = ConsoleSink(shown)
    written("last words", sink=sink)
    written("other", sink=sink, stream="stderr")
    written("", sink=sink)
    assert shown.getvalue() == "f 0001 | last words\n"
    assert list(sink._partial) == [("ta-0001", "stderr")]
    written("", "", sink=sink, stream="stderr")
    assert shown.getvalue().splitlines()[1:] == ["f 0001 | other"]
    assert not sink._partial
