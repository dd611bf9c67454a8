"""The conformance suite before a real engine: what any model promises, by hand and by clients that are there anyway.

What differs between engines is in the service and below it, so one client of each dialect is enough here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.service.deployment import ROOT

if TYPE_CHECKING:
    from tests.sglang.service import Service

PROMISES = "tools,messages,responses,own-dialect"
FILES = ("test_clients.py", "test_wire_connections.py", "test_wire_headers.py", "test_wire_leaving.py",
         "test_wire_streams.py")  # fmt: skip
CLIENTS = (
    "not test_client or ((openai-python or anthropic or websockets) and not oldest and not litellm"
    " and not a_required_tool_is_called)"
)
"""Its tool takes an integer without bounds, which the demo model may write until its limit: test_answers has tools."""


def test_what_any_model_promises_holds_before_this_engine(service: Service) -> None:
    for model in ("demo", "vectors"):
        service.loaded(model)
    command = [
        sys.executable, "-m", "pytest", *(f"tests/conformance/{name}" for name in FILES), "-k", CLIENTS, "-q",
        "-p", "no:cacheprovider", "-p", "no:randomly", "--timeout", "600", "--base-url", service.url,
        "--model", "demo", "--embedding-model", "vectors", "--promises", PROMISES,
    ]  # fmt: skip
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=800, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    assert "passed" in done.stdout
