"""dynalite: a DynamoDB that others wrote, in JavaScript, without moto's habits. A process of its own."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance import environments

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


@contextlib.contextmanager
def dynalite() -> Iterator[str]:
    """Its address. Raises environments.CannotInstall, and NotOnThisMachine where there is no Node.js."""
    node = environments.node(HERE / "node", "dynalite")
    command = [node.program, node.folder / "serve.mjs"]
    # It ends when its input does, so with this process, however that ends.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port.isdigit(), f"dynalite did not start: it exited with {process.wait(timeout=60)}"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.kill()
        process.wait()
        process.stdout.close()
