"""Every requirement in REQUIREMENTS.md is held by tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NAMED = re.compile(r"`([\w/]+\.(?:py|mjs))::(\w+)`")
LINES = [line for line in (HERE / "REQUIREMENTS.md").read_text().splitlines() if line.startswith("| ")]
REQUIREMENTS = [line for line in LINES if not line.startswith("| Requirement")]


def names_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".mjs":
        return set(re.findall(r'^check\(\s*"(\w+)"', text, re.MULTILINE))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, functions)}


@pytest.mark.parametrize("line", REQUIREMENTS, ids=lambda line: line.split("|")[1].strip()[:60])
def test_it_is_held_by_tests_that_exist(line: str) -> None:
    held_by = NAMED.findall(line)
    assert held_by, "no test holds it"
    for path, name in held_by:
        assert name in names_in(HERE.parent / path), f"{path} has no {name}"
