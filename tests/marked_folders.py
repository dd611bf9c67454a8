"""Folders of tests that are collected by their own mark alone: they take what few machines have, or minutes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def only_by_mark(config: pytest.Config, items: list[pytest.Item], *, folder: Path, mark: str, seconds: float) -> None:
    """Take the tests of `folder` out of `items` unless `-m` names `mark`, and give them the mark and `seconds` each.
    Tests that they share with other files have marks of their own, which count for nothing here."""
    ours = [item for item in items if folder in item.path.parents]
    if mark not in config.option.markexpr:
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]
    for item in ours:
        item.add_marker(mark)
        item.add_marker(pytest.mark.timeout(seconds), append=False)
