"""The documents that are made from the code are as the code has them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from infra.settings import Settings
from tests.documents import api, configuration, made


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return {path.relative_to(made.ROOT).as_posix(): text for path, text in made.documents().items()}


@pytest.mark.parametrize(
    "path", ["docs/configuration.md", "docs/api-reference.md", "docs/postman/llm.postman_collection.json"]
)
def test_it_is_up_to_date(documents: dict[str, str], path: str) -> None:
    kept = (made.ROOT / path).read_text(encoding="utf-8")
    assert kept == documents[path], f"{path} is not what the code says: run `make docs` and commit it"


def test_every_setting_says_what_it_is_for(documents: dict[str, str]) -> None:
    rows = [line for line in documents["docs/configuration.md"].splitlines() if line.startswith("| `")]
    assert len(rows) > 90
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_example_names_no_key_that_does_not_exist() -> None:
    """Of what it shows all can be read; the reference takes its comments, so their sections have to exist."""
    text = (made.ROOT / "config.example.toml").read_text(encoding="utf-8")
    Settings.model_validate(tomllib.loads(text))
    sections = {f"[{name}]" for name in Settings.model_fields}
    named = {key for key in configuration.comments_of(text) if key.startswith("[") and "." not in key}
    assert named <= sections


def test_every_reference_in_the_openapi_document_leads_somewhere() -> None:
    document = api.openapi()
    lost = []

    def look(value: Any, place: str) -> None:
        if isinstance(value, dict):
            if isinstance(name := value.get("$ref"), str):
                target: Any = document
                for step in name.removeprefix("#/").split("/"):
                    target = target.get(step, {}) if isinstance(target, dict) else {}
                if not name.startswith("#/") or not target:
                    lost.append(f"{place}: {name}")
            for key, inner in value.items():
                look(inner, f"{place}/{key}")
        elif isinstance(value, list):
            for inner in value:
                look(inner, place)

    look(document, "")
    assert lost == []
