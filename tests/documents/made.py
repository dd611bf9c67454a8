"""Which documents are made, and of what."""

from __future__ import annotations

from pathlib import Path

from tests.documents import api, configuration, postman

ROOT = Path(__file__).parents[2]


def documents() -> dict[Path, str]:
    """Each made document's path, and what it has to hold."""
    document = api.openapi()
    example = (ROOT / "config.example.toml").read_text(encoding="utf-8")
    return {
        ROOT / "docs/configuration.md": configuration.reference(example),
        ROOT / "docs/api-reference.md": api.reference(document),
        ROOT / "docs/postman/llm.postman_collection.json": postman.collection(document),
    }
