"""`python -m infra.admin usage` on a table."""

from __future__ import annotations

import asyncio
import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from infra.admin import app
from infra.usage import Amounts, Row, Slot
from infra.usage_table import UsageTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest

Run = Any
ROWS = [
    Row(Slot(account, day, model), writer, Amounts(2, 30, 10, 8, 1_500_000, 10**9 + 1), version=1, name=name)
    for account, name in (("key:a", "alice"), ("anonymous", None))
    for day in ("2025-10-31", "2025-11-01")
    for model in ("m", "n")
    for writer in ("x", "y")
]


@pytest.fixture
def run(aws_server: Aws, aws_state: StateOfTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Runs it in a folder without a configuration, on the test's table."""
    monkeypatch.chdir(tmp_path)
    for name, value in {**aws_server.environment(), "STATE__TABLE": aws_state.name, "STATE__KIND": "aws"}.items():
        monkeypatch.setenv(name, value)
    asyncio.run(UsageTable(aws_state.table, keep_days=4000).write(ROWS))
    return lambda *arguments: CliRunner().invoke(app, ["usage", *arguments])


def test_usage_is_shown_as_a_table_as_json_and_as_csv(run: Run) -> None:
    days = ("--from", "2025-10-01", "--to", "2025-11-30")
    shown = run(*days, "--by", "key")
    assert shown.exit_code == 0, shown.stderr
    lines = [line.split() for line in shown.stdout.splitlines()]
    assert lines[0][-2:] == ["cost", "(USD)"]
    assert lines[1:] == [
        ["anonymous", "16", "240", "80", "64", "12.0", "0.008000000008"],
        ["alice", "16", "240", "80", "64", "12.0", "0.008000000008"],
        ["32", "480", "160", "128", "24.0", "0.016000000016"],
    ]
    told = json.loads(run(*days, "--key", "alice", "--model", "n", "--json").stdout)
    assert [(line["key"], line["model"], line["day"], line["requests"]) for line in told["data"]] == [
        ("key:a", "n", "2025-10-31", 4), ("key:a", "n", "2025-11-01", 4),
    ]  # fmt: skip
    assert (told["total"]["cost"], told["currency"], told["from"]) == ("0.004000000004", "USD", "2025-10-01")
    listed = list(csv.DictReader(run(*days, "--by", "month", "--by", "key", "--csv").stdout.splitlines()))
    assert [(line["name"], line["month"], line["completion_tokens"]) for line in listed] == [
        ("", "2025-10", "32"), ("", "2025-11", "32"), ("alice", "2025-10", "32"), ("alice", "2025-11", "32"),
    ]  # fmt: skip
    empty = run("--from", "2024-01-01", "--to", "2024-01-31").stdout
    assert empty == "Nothing was used from 2024-01-01 to 2024-01-31.\n"


@pytest.mark.slow
def test_what_cannot_be_told_is_one_line_on_stderr(run: Run) -> None:
    for wrong in (
        ["--from", "soon"],
        ["--from", "2025-02-01", "--to", "2025-01-01"],
        ["--by", "x"],
        ["--json", "--csv"],
    ):
        told = run(*wrong)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (2, "", 1), wrong
