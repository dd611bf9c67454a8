"""Nothing in the web tier waits, or asks for the time, but through the clock that it is given."""

from __future__ import annotations

import ast
from pathlib import Path

import web

FORBIDDEN = {"asyncio.sleep", "asyncio.wait_for", "asyncio.timeout", "asyncio.timeout_at"}


def uses(source: str) -> list[str]:
    """The dotted names in `source` that go past the clock."""
    tree = ast.parse(source)
    dotted = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    imported = [
        f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    return [name for name in dotted + imported if name in FORBIDDEN or name.startswith("time.")]


def test_only_the_clock_knows_the_time() -> None:
    files = list(Path(web.__path__[0]).rglob("*.py"))
    assert len(files) > 20
    assert {file.name: found for file in files if (found := uses(file.read_text())) and file.name != "clock.py"} == {}


def test_the_rule_sees_what_it_is_for() -> None:
    assert uses("import time\ntime.monotonic()") == ["time.monotonic"]
    assert uses("from asyncio import sleep") == ["asyncio.sleep"]
