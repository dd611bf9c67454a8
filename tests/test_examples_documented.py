"""The examples in the documents are files that the tests run."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "tests/examples"


@pytest.mark.parametrize("document", ["README.md", "docs/testing.md"])
def test_a_document_shows_the_test_of_the_guestbook_whole(document: str) -> None:
    test = (EXAMPLES / "test_guestbook.py").read_text(encoding="utf-8")
    assert f"```python\n{test}```" in (ROOT / document).read_text(encoding="utf-8")
    assert len([line for line in test.splitlines() if line]) <= 10


def test_the_document_shows_the_guestbook_itself() -> None:
    app = (EXAMPLES / "guestbook.py").read_text(encoding="utf-8").partition("\n\n")[2]
    assert f"```python\n{app}```" in (ROOT / "docs/testing.md").read_text(encoding="utf-8")
