"""docs/emulator-support.md as data, and the marks of the tests that hold it. As a command it prints the counts."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "emulator-support.md"
SECTIONS = (
    "CLI",
    "Calls",
    "Functions",
    "Classes",
    "Autoscaling",
    "Web",
    "Servers",
    "Storage",
    "Sandboxes",
    "Images",
    "How it holds",
)
HEADER = ("Row", "Support", "What differs, or what happens")
SUPPORT = ("supported", "partly", "not")


@dataclass(frozen=True)
class Row:
    section: str
    name: str
    """Without the back ticks of the document."""
    support: str
    text: str


@dataclass(frozen=True)
class Written:
    """A test function, or a case of one, as its source has it."""

    where: str
    rows: tuple[tuple[str, str], ...]
    emulator_only: bool
    uses_emulator: bool


def rows() -> list[Row]:
    """Every row of every table. Raises ValueError for a table that is not laid out as the others."""
    found, section = [], ""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ").strip()
        elif line.startswith("|") and section in SECTIONS:
            cells = tuple(cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1])
            if len(cells) != len(HEADER):
                raise ValueError(f"{section}: {line!r} has {len(cells)} cells and not {len(HEADER)}")
            if cells != HEADER and not set("".join(cells)) <= set("-: "):
                found.append(Row(section, cells[0].replace("`", ""), cells[1], cells[2]))
    return found


def written() -> list[Written]:
    return [test for path in sorted(HERE.glob("test_*.py")) if path.name != "test_support_table.py"
            for test in _tests_of(path)]  # fmt: skip


def _tests_of(path: Path) -> Iterator[Written]:
    module = ast.parse(path.read_text(encoding="utf-8"))
    for_all = [node.value for node in module.body if isinstance(node, ast.Assign) and _assigns(node, "pytestmark")]
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            marks = [mark for part in (*node.decorator_list, *for_all) for mark in _marks(part)]
            yield Written(
                where=f"{path.name}::{node.name}",
                rows=tuple(_row_of(mark, path) for name, mark in marks if name == "row"),
                emulator_only=any(name == "emulator_only" for name, _ in marks),
                uses_emulator=any(
                    isinstance(inner, ast.Attribute)
                    and inner.attr == "emulator"
                    and isinstance(inner.value, ast.Name)
                    and inner.value.id == "target"
                    for inner in ast.walk(node)
                ),
            )


def _assigns(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def _marks(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every `pytest.mark.<name>(…)` in there, also those of a parameter's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("pytest.mark."):
            yield ast.unparse(node.func).removeprefix("pytest.mark."), node


def _row_of(mark: ast.Call, path: Path) -> tuple[str, str]:
    words = [word.value for word in mark.args if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if len(words) != 2 or mark.keywords:
        raise ValueError(f"{path.name}:{mark.lineno}: a row is told as (section, name), in words that stand there")
    return words[0], words[1].replace("`", "")


def counts() -> dict[str, Counter[str]]:
    """How many rows of each kind every section has, and all together."""
    counted = {section: Counter(row.support for row in rows() if row.section == section) for section in SECTIONS}
    return {**counted, "all": sum(counted.values(), Counter())}


def main() -> None:
    print(f"{'':14}" + "".join(f"{kind:>11}" for kind in SUPPORT))
    for section, counted in counts().items():
        print(f"{section:14}" + "".join(f"{counted[kind]:11}" for kind in SUPPORT))


if __name__ == "__main__":
    main()
