"""`python -m infra.admin keys`, on the table that the configuration names."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from infra.admin import app
from infra.key_table import KeysInTable
from infra.keys import fingerprint

if TYPE_CHECKING:
    from click.testing import Result

    from emulator.aws import Aws
    from infra.key_records import KeyRecord
    from tests.aws_kit import StateOfTest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


class Operator:
    """Types commands."""

    def __init__(self, state: StateOfTest) -> None:
        self._state = state

    def __call__(self, *words: str, status: int = 0) -> Result:
        result = CliRunner().invoke(app, ["keys", *words])
        assert result.exit_code == status, result.output
        return result

    def told(self, *words: str) -> Any:
        return json.loads(self(*words, "--json").stdout)

    def found(self, secret: str) -> KeyRecord | None:
        return asyncio.run(KeysInTable(self._state.table, time=time.time).find(fingerprint(secret)))


@pytest.fixture
def environment(aws_state: StateOfTest, aws_server: Aws, tmp_path: Path) -> dict[str, str]:
    return {**aws_server.environment(), "STATE__TABLE": aws_state.name, "STATE__KIND": "aws"}


@pytest.fixture
def keys(
    aws_state: StateOfTest, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Operator:
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Operator(aws_state)


def test_a_key_is_made_and_told_alone_on_its_line(keys: Operator) -> None:
    result = keys("create", "ci", "--scope", "inference", "--scope", "admin", "--model", "demo", "--rate-limit", "9",
                  "--tokens", "1000", "--budget", "2.5", "--expires", "90d", "--label", "team=a=b")  # fmt: skip
    record = keys.found(result.stdout.strip())
    assert record is not None
    assert (record.name, record.scopes, record.models) == ("ci", ("inference", "admin"), ("demo",))
    assert (record.rate_limit_per_minute, record.tokens_per_minute, record.monthly_budget) == (9, 1000, 2.5)
    assert record.expires_at is not None
    assert record.expires_at.timestamp() == pytest.approx(time.time() + 90 * 86400, abs=100)
    assert record.labels == {"team": "a=b"}
    assert record.id in result.stderr


def test_a_key_is_shown_rotated_and_revoked(keys: Operator) -> None:
    made = keys.told("create", "ci", "--expires", "2100-01-01T00:00:00Z")
    first, key_id = made.pop("key"), made["id"]
    assert keys.told("show", key_id) == made
    assert (made["expires_at"], made["hint"]) == (4102444800, first[-4:])
    second = keys.told("rotate", key_id, "--grace", "1h")["key"]
    assert keys.found(first) == keys.found(second) is not None
    third = keys("rotate", key_id).stdout.strip()
    assert [keys.found(secret) is None for secret in (first, second, third)] == [True, True, False]
    assert "2100-01-01 00:00" in keys("show", key_id).stdout
    assert keys.told("revoke", key_id)["status"] == "revoked"
    assert keys.found(third) is None
    assert "is revoked already" in keys("revoke", key_id, status=1).stderr
    assert "is revoked already" in keys("rotate", key_id, status=1).stderr
    assert first + second + third not in keys("list", "--json").stdout


def test_keys_are_listed_for_people_and_for_programs(keys: Operator) -> None:
    assert "There are no keys" in keys("list").stdout
    assert keys.told("list") == []
    made = [keys.told("create", name)["id"] for name in ("a[b]", "c")]
    assert sorted(one["id"] for one in keys.told("list")) == sorted(made)
    shown = keys("list").stdout
    assert all(key_id in shown for key_id in made)
    assert "a[b]" in shown


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("create", "k", "--scope", "root"), 2, "scopes.0"), (("create", ""), 2, "name"),
        (("create", "k", "--model", "none"), 2, "'none' is not configured"),
        (("create", "k", "--expires", "soon"), 2, "--expires: expected 90d"),
        (("create", "k", "--expires", "2030-01-01T00:00:00"), 2, "with its zone"),
        (("create", "k", "--expires", "2001-01-01T00:00:00Z"), 2, "is over"),
        (("create", "k", "--label", "a"), 2, "NAME=VALUE"), (("create", "k", "--budget", "nan"), 2, "monthly_budget"),
        (("rotate", "key_0", "--grace", "31d"), 2, "--grace"), (("rotate", "key_0"), 1, "there is no key key_0"),
        (("show", "key_0"), 1, "there is no key"), (("revoke", "x" * 3000), 1, "there is no key"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(keys: Operator, words: tuple[str, ...], status: int, told: str) -> None:
    result = keys(*words, status=status)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_without_a_table_it_says_what_makes_one(keys: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE__TABLE", "another-table")
    assert "`python -m infra.setup` makes table and bucket" in keys("list", status=1).stderr
    monkeypatch.setenv("STATE__KIND", "memory")
    assert 'state.kind: is "memory"' in keys("list", status=2).stderr
    monkeypatch.setenv("STATE__KIND", "disk")
    assert "state.kind: expected" in keys("list", status=2).stderr


@pytest.mark.slow
def test_it_is_a_command(environment: dict[str, str]) -> None:
    def run(*words: str) -> str:
        command = [sys.executable, "-m", "infra.admin", "keys", *words]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout

    made = json.loads(run("create", "ci", "--json"))
    assert made["id"] in run("list")
