"""`modal dict` and `modal queue`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


def printed(target: Target, *words: str) -> str:
    done = target.cli(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def listed(target: Target, *words: str) -> dict[str, dict[str, Any]]:
    """The lines of a list by their names."""
    return {line["name"]: line for line in json.loads(printed(target, *words, "--json"))}


@pytest.mark.slow
@pytest.mark.row("CLI", "modal dict")
def test_a_dict_s_entries_are_shown(target: Target) -> None:
    name = f"shown-{target.session}"
    kept = modal.Dict.from_name(name, create_if_missing=True, client=target.client)
    kept.update({"key": "value", "other": 2})
    assert printed(target, "dict", "get", name, "key") == "value\n"
    assert sorted(json.loads(printed(target, "dict", "items", name, "--json")), key=str) == [
        {"key": "key", "value": "value"},
        {"key": "other", "value": 2},
    ]
    modal.Dict.objects.delete(name, client=target.client)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal dict")
def test_dicts_are_created_listed_cleared_and_deleted(target: Target) -> None:
    name = f"cli-{target.session}"
    printed(target, "dict", "create", name)
    printed(target, "dict", "create", name)
    assert listed(target, "dict", "list")[name]["created_by"]
    kept = modal.Dict.from_name(name, client=target.client)
    kept.update(dict.fromkeys(range(30), "x" * 100))
    assert printed(target, "dict", "items", name, "-r").count("'xxx") == 20
    assert printed(target, "dict", "items", name, "--all").count("xxx...") == 30
    assert printed(target, "dict", "get", name, "nothing") == "None\n"
    refused = target.cli("dict", "clear", name, input="n\n")
    assert refused.returncode == 1
    assert kept.len() == 30
    printed(target, "dict", "clear", name, "--yes")
    assert kept.len() == 0
    printed(target, "dict", "delete", name, "--yes")
    assert name not in listed(target, "dict", "list")
    again = target.cli("dict", "delete", name, "--yes")
    assert again.returncode == 1
    assert f"'{name}' not found" in again.stderr
    printed(target, "dict", "delete", name, "--yes", "--allow-missing")


@pytest.mark.row("CLI", "modal queue")
def test_a_queue_s_items_are_shown_and_stay(target: Target) -> None:
    name = f"shown-{target.session}"
    kept = modal.Queue.from_name(name, create_if_missing=True, client=target.client)
    kept.put_many(["first", "second", "third"])
    assert printed(target, "queue", "peek", name, "2") == "first\nsecond\n"
    assert printed(target, "queue", "len", name) == "3\n"
    modal.Queue.objects.delete(name, client=target.client)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal queue")
def test_queues_are_created_listed_cleared_and_deleted(target: Target) -> None:
    name = f"cli-{target.session}"
    printed(target, "queue", "create", name)
    kept = modal.Queue.from_name(name, client=target.client)
    kept.put_many([1, 2])
    kept.put_many([3, 4, 5], partition="p")
    line = listed(target, "queue", "list")[name]
    assert [str(line[column]) for column in ("partitions", "total_size")] == ["2", "5"]  # older clients print texts
    assert printed(target, "queue", "peek", name, "-p", "p") == "3\n"
    lengths = [printed(target, "queue", "len", name, *words) for words in ([], ["-p", "p"], ["--total"])]
    assert lengths == ["2\n", "3\n", "5\n"]
    printed(target, "queue", "clear", name, "-p", "p", "--yes")
    assert (kept.len(), kept.len(total=True)) == (2, 2)
    printed(target, "queue", "clear", name, "--all", "--yes")
    assert kept.len(total=True) == 0
    printed(target, "queue", "delete", name, "--yes")
    assert name not in listed(target, "queue", "list")
    assert target.cli("queue", "delete", name, "--yes").returncode == 1
