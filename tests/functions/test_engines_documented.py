"""The table of differences in docs/engines.md is the one that the engines' suite reads."""

from __future__ import annotations

import re

from tests.service.deployment import ROOT
from tests.sglang.differences import DIFFERENCES, table


def test_the_table_is_the_one_that_the_tests_read() -> None:
    assert table() in (ROOT / "docs/engines.md").read_text(encoding="utf-8"), f"docs/engines.md should hold:\n{table()}"


def test_each_difference_is_one_and_some_test_reads_it() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/sglang").glob("test_*.py"))
    for name, difference in DIFFERENCES.items():
        (ours, _), (theirs, _) = difference.values["llamacpp"], difference.values["sglang"]
        assert ours != theirs, name
        assert re.search(rf"""expected\(["']{name}["'], """, tests), f"no test asks for {name}"
