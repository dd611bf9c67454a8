"""What the documents point to and tell to run is there."""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING

import pytest

from tests.documents import reading

if TYPE_CHECKING:
    from pathlib import Path

PAGES = reading.pages()


def name(page: Path) -> str:
    return page.relative_to(reading.ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page: Path) -> None:
    broken = []
    for link in reading.links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in reading.anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_that_it_names_exists(page: Path) -> None:
    targets = set(
        re.findall(r"^([a-z][a-z-]*):", (reading.ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert reading.make_targets(page) <= targets
    assert [module for module in sorted(reading.modules(page)) if importlib.util.find_spec(module) is None] == []


OURS = re.compile(r"(?:web|functions|infra|emulator|tests|docs|page)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_file_that_it_names_is_there(page: Path) -> None:
    spans = reading.SPAN.findall(reading.prose(page))
    named = {span.partition("::")[0] for span in spans if OURS.fullmatch(span.partition("::")[0])}
    assert sorted(path for path in named if not (reading.ROOT / path).exists()) == []


def test_the_index_names_every_page() -> None:
    index = reading.ROOT / "docs/README.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in reading.links(index)}
    pages = {page for page in PAGES if page.parent == index.parent and page != index}
    assert sorted(name(page) for page in pages - listed) == []


THREATS = reading.ROOT / "SECURITY.md"


def test_every_line_of_the_threat_model_names_tests_that_exist() -> None:
    rows = [line for line in THREATS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| What an attacker tries")]
    assert len(rows) >= 25
    for row in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", row)
        assert named, row
        for path, test in named:
            source = (reading.ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"def {test}\(" if test else r"def test_", source), f"{path}::{test}"
