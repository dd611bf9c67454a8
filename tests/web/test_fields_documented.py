"""`docs/api.md` lists what becomes of every field of Messages and of Responses, as the parsers have it."""

from __future__ import annotations

from pathlib import Path

import pytest

from web.dialects import anthropic_schema, responses_schema

DOCUMENT = Path(__file__).parents[2] / "docs/api.md"


def rows(**tables: dict[str, str]) -> str:
    return "\n".join(
        f"| `{name}` | {kind} | {note} |" for kind, table in tables.items() for name, note in table.items()
    )


@pytest.mark.parametrize(
    "table",
    [
        rows(
            honoured=responses_schema.HONOURED, ignored=responses_schema.IGNORED,
            refused={**responses_schema.PARTLY, **responses_schema.REFUSED},
        ),
        rows(
            honoured=anthropic_schema.HONOURED, ignored=anthropic_schema.IGNORED, refused=anthropic_schema.REFUSED
        ),
    ],
    ids=["responses", "messages"],
)  # fmt: skip
def test_the_document_shows_the_table(table: str) -> None:
    assert table in DOCUMENT.read_text(encoding="utf-8")
