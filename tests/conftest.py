"""Fixtures of all tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The project is not installed, so its entry point is not there: by name. `pytester` is pytest's own, for its plugins.
pytest_plugins = ["emulator.pytest_plugin", "pytester"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An emulator's `TMPDIR`: not pytest's own, whose path is too long for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="tmp-") as folder:
        yield Path(folder)
