"""Who may import whom. See the design in docs/architecture.md."""

from __future__ import annotations

import ast
import gc
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
ROOMS = {"infra", "web", "functions", "emulator", "app"}
MAY_IMPORT = {
    "infra": set(),
    "web": {"infra"},
    "functions": {"web", "infra"},
    "app": {"functions", "infra"},
    "emulator": set(),
}
CLIENT = "modal"
PRIVATE_NAMES_LIVE_IN = ROOT / "emulator/containers"  # in what is named compat…


def sources(room: str) -> list[Path]:
    return [ROOT / "app.py"] if room == "app" else sorted((ROOT / room).rglob("*.py"))


@pytest.fixture(autouse=True, scope="module")
def _no_collector() -> Iterator[None]:
    """Until Python 3.12 the parser fails when the collector, in the middle of it, ends a task that some other test has
    left: the warning about that parses code as well."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def imports(path: Path) -> set[str]:
    """Every module that the file imports, at the top or inside a function."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrow"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_each_room_imports_only_what_lies_below_it(room: str) -> None:
    files = sources(room)
    assert files
    for path in files:
        reached = {module.split(".")[0] for module in imports(path)} & ROOMS
        assert reached - {room} <= MAY_IMPORT[room], f"{path.relative_to(ROOT)} imports {reached - {room}}"


def test_the_web_tier_knows_nothing_of_modal() -> None:
    for path in sources("web"):
        assert not any(module.split(".")[0] == CLIENT for module in imports(path)), path


def test_the_private_names_of_the_client_live_in_one_place() -> None:
    for room in sorted(ROOMS):
        for path in sources(room):
            private = {m for m in imports(path) if m.split(".")[0] == CLIENT and "._" in m}
            known = str(path).startswith(str(PRIVATE_NAMES_LIVE_IN / "compat"))
            assert not private or known, f"{path.relative_to(ROOT)} imports {private}"
