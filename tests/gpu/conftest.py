"""SGLang's real wheel on a machine with CUDA: collected by `-m gpu` alone (`make test-gpu`), skipped where none is.

`SGLANG_PYTHON` names the Python that has SGLang, and what our code needs beside it there: pydantic-settings, aiohttp,
as in SGLang's own image with what app.py adds to it; `python3` unless it is set. With `SGLANG_DEVICE=cpu` the same
tests run on a CPU as far as they go.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.gpu.engine import Place
from tests.marked_folders import only_by_mark

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
MARK = "gpu"
SECONDS = 1800
PROBE = "import sglang, torch; print(sglang.__version__, torch.cuda.is_available())"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only_by_mark(config, items, folder=HERE, mark=MARK, seconds=SECONDS)


@pytest.fixture(scope="session")
def place() -> Iterator[Place]:
    """Where SGLang runs; skips, and says so, where it cannot."""
    device = os.environ.get("SGLANG_DEVICE", "cuda")
    if device == "cuda" and shutil.which("nvidia-smi") is None:
        pytest.skip("there is no CUDA on this machine: no nvidia-smi")
    program = os.environ.get("SGLANG_PYTHON") or shutil.which("python3")
    probe = subprocess.run([str(program), "-c", PROBE], capture_output=True, text=True, timeout=300, check=False)
    if probe.returncode:
        pytest.skip(f"{program} has no SGLang (set SGLANG_PYTHON): {probe.stderr.strip()[-300:]}")
    if device == "cuda" and not probe.stdout.strip().endswith("True"):
        pytest.skip(f"torch in {program} sees no CUDA")
    yield Place(program=str(program), device="cpu" if device == "cpu" else "cuda")
