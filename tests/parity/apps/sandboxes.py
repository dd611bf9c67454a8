"""Functions that make Sandboxes."""

from __future__ import annotations

import modal

app = modal.App("sandboxes")


@app.function(env={"GREETING": "from a function"})
def in_a_sandbox(text: str) -> tuple[str, int | None, str]:
    """What a Sandbox makes of a text, its code, and what a command in it says."""
    sandbox = modal.Sandbox.create("tr", "a-z", "A-Z")
    said = sandbox.exec("echo", "again").stdout.read()
    sandbox.stdin.write(text)
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    return sandbox.stdout.read(), sandbox.returncode, said


@app.function(env={"GREETING": "from a function"})
def greet() -> str:
    return "hi"
