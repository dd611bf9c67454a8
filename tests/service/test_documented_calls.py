"""What README and docs tell newcomers to ask the service is asked: every curl command and every program with an SDK."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.processes import running
from tests.documents import reading
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

ADDRESS = "http://127.0.0.1:3000"


def told(page: Path) -> Iterator[tuple[str, str]]:
    """The kind and the text of each thing that a page tells to ask the service."""
    for block in reading.FENCE.finditer(page.read_text(encoding="utf-8")):
        kind, _, text = block[0].partition("\n")
        text = text.rstrip().removesuffix("```")
        if ADDRESS not in text:
            continue
        if kind == "```python":
            yield "python", text
        for command in re.findall(r"^\$ (curl (?:.*\\\n)*.*)", text, re.MULTILINE):
            yield "bash", command


CALLS = [(page, kind, text) for page in reading.pages() for kind, text in told(page)]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The service as `make serve` starts it, with the demo model."""
    port = free_port()
    place = {"SERVER__HOST": "127.0.0.1", "SERVER__PORT": str(port)}
    with running([sys.executable, "-m", "functions.standalone"], port=port, environment=place):
        yield f"http://127.0.0.1:{port}"


def test_there_are_some() -> None:
    assert {page.name for page, _, _ in CALLS} >= {"README.md"}
    assert len(CALLS) >= 5


@pytest.mark.parametrize(
    ("kind", "text"), [call[1:] for call in CALLS], ids=[f"{page.name} {text[:60]}" for page, _, text in CALLS]
)
def test_it_works_as_it_is_written(address: str, kind: str, text: str) -> None:
    command = [sys.executable, "-c"] if kind == "python" else ["bash", "-c"]
    text = text.replace(ADDRESS, address)
    if kind == "bash":
        text = text.replace("curl ", "curl --fail-with-body --silent --show-error ", 1)
    done = subprocess.run([*command, text], env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "it says something"
    assert '"error"' not in done.stdout
