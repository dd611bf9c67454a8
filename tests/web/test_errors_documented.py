"""`docs/api.md` lists every error that there is, as it is on the wire."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import web
from web.errors import EngineBroken, EngineRefused, InvalidRequest, PermissionDenied, RateLimited, ServiceError, to_wire

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
NOT_OF_HTTP = {"AnswerCut", "Over"}
"""A guard's sign to the relay, and a WebSocket's to its connection."""


@pytest.fixture(scope="module", autouse=True)
def everything() -> None:
    """Much of the application is loaded when it is first needed, errors of its own with it."""
    for module in pkgutil.walk_packages(web.__path__, "web."):
        importlib.import_module(module.name)


def classes(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    for kind in base.__subclasses__():
        if kind.__module__.startswith("web."):
            yield kind
            yield from classes(kind)


def documented() -> set[tuple[int, str, str]]:
    """(status, type, code) of each row, with each of the types and codes that it names."""
    section = (ROOT / "docs/api.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|", section, re.MULTILINE)
    return {
        (int(status), kind, code)
        for status, kinds, codes in rows
        for kind in re.findall(r"`(\w+)`", kinds)
        for code in re.findall(r"`(\w+)`", codes)
    }


def codes_in_source(kind: type[ServiceError]) -> set[str]:
    """The codes that errors of this kind are raised with."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "web").rglob("*.py"))
    calls = re.findall(rf"{kind.__name__}\((?:[^()]|\([^()]*\))*?code=\"(\w+)\"", text)
    return set(calls)


def on_the_wire() -> set[tuple[int, str, str]]:
    told = set()
    for kind in set(classes()) - {InvalidRequest, EngineRefused}:
        if kind.__name__ in NOT_OF_HTTP:
            continue
        for code in codes_in_source(kind) if kind in (EngineBroken, PermissionDenied) else {kind.code}:
            assert code is not None, kind
            types = {"requests", "tokens"} if kind is RateLimited else {kind.type}
            told |= {(kind.status, one, code) for one in types}
    unexpected = to_wire(KeyError())
    return told | {(unexpected.status, unexpected.type, str(unexpected.code))}


def test_every_error_is_documented_and_no_other() -> None:
    table = documented()
    told = on_the_wire()
    assert {row for row in table if row[0] != 400} == {row for row in told if row[0] != 400}
    assert told <= table
    assert {row[:2] for row in table if row[0] == 400} == {(400, "invalid_request_error")}


@pytest.mark.parametrize("kind", sorted(classes(), key=lambda kind: kind.__name__), ids=lambda kind: kind.__name__)
def test_what_is_asked_again_says_when_within_a_minute(kind: type[ServiceError]) -> None:
    error = kind.__new__(kind)
    error.message = ""
    for patience in (0.0, 0.3, 5, 10_000):
        headers = error.headers(patience)
        if kind.again:
            assert 1 <= int(headers["Retry-After"]) <= 60
            assert 1 <= int(headers["retry-after-ms"]) <= 60_000
            assert headers["x-should-retry"] == "true"
        else:
            assert headers.get("x-should-retry") != "true"
