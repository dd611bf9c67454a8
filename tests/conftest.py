"""Fixtures of all tests."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emulator.images.cache import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

# The project is not installed, so its entry point is not there: by name. `pytester` is pytest's own, for its plugins.
pytest_plugins = ["emulator.pytest_plugin", "pytester"]


@pytest.fixture(scope="session", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where environments of images are kept: not the developer's own folder."""
    folder = tmp_path_factory.mktemp("images")
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    yield folder
    os.environ.pop(FOLDER_VARIABLE)
    if before is not None:
        os.environ[FOLDER_VARIABLE] = before


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An emulator's `TMPDIR`: not pytest's own, whose path is too long for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="tmp-") as folder:
        yield Path(folder)
