"""What `make run` starts: ready with one line, answers on its port, and leaves no process after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import openai
import pytest

from tests.ports import free_port
from tests.service.deployment import ROOT, processes, until


def recipe_of_make_run(*, state: Path) -> str:
    """The recipe of the Makefile's target, with this interpreter and a state of its own."""
    recipe = subprocess.run(["make", "--dry-run", "run"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    lines = recipe[recipe.rindex("port=") :].replace(".venv/bin/python", sys.executable).strip()
    return f"{lines} --no-reload --state {state}"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_make_run_answers_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    port = free_port()
    output = tmp_path / "output"
    state = tmp_path / "state"
    marker = f"--port {port}"
    with output.open("wb") as file:
        up = subprocess.Popen(
            ["sh", "-c", recipe_of_make_run(state=state)], env={**os.environ, "PORT": str(port)},
            cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        until(lambda: up.poll() is not None or "\nReady: " in output.read_text(), within=90)
        assert re.search(rf"^Ready: http://127\.0\.0\.1:{port}$", output.read_text(), re.M), output.read_text()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
        question = [{"role": "user", "content": "What is this project?"}]
        stream = client.chat.completions.create(model="demo", messages=question, stream=True)  # type: ignore[call-overload]
        assert len("".join(chunk.choices[0].delta.content or "" for chunk in stream)) > 20
        assert list(processes("llamacpp_server"))
    finally:
        session = up.pid
        if up.poll() is None:
            os.kill(up.pid, signal.SIGINT)
        code = up.wait(30)
    assert code in (0, 130)
    assert not list(processes(marker))
    until(lambda: not list(processes(str(state))) and not in_session(session), within=30)


def in_session(session: int) -> list[str]:
    """Command lines of the processes that still belong to a session."""
    table = subprocess.run(
        ["ps", "-s", str(session), "-o", "args="], capture_output=True, text=True, check=False
    ).stdout
    return table.splitlines()
