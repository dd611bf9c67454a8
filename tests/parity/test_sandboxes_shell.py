"""`modal shell` and `modal container exec`: by hand in a terminal, and by scripts without one."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import modal
import pytest

from tests.parity.kit import APPS

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target

SOON = 60.0


def said(target: Target, *words: str) -> str:
    """What a command writes to stdout that succeeds."""
    done = target.cli(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("sandboxes.py")


def container_of(target: Target, app: DeployedApp) -> str:
    """A container of the app's that has just run `greet`."""
    assert app.function("greet").remote() == "hi"
    listed = json.loads(said(target, "container", "list", "--json"))
    return str(next(one["container_id"] for one in listed if one["app_name"] == app.name))


@pytest.mark.row("CLI", "modal shell")
def test_a_shell_of_a_function_has_its_image_and_its_environment(target: Target) -> None:
    command = "echo $GREETING; pwd; ls; echo $MODAL_IS_REMOTE."
    told = said(target, "shell", "--no-pty", "--cmd", command, "sandboxes.py::greet")
    assert told == "from a function\n/root\nsandboxes.py\n.\n"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal shell")
def test_a_shell_of_no_function_has_volumes_secrets_and_files_that_it_is_told(target: Target) -> None:
    names = [target.unique("of-a-shell"), target.unique("for-a-shell")]
    said(target, "volume", "create", names[0])
    said(target, "secret", "create", names[1], "WORD=told")
    try:
        told = said(
            target,
            *("shell", "--no-pty", "--cmd", "echo $WORD; ls /mnt"),
            *("--volume", names[0], "--secret", names[1], "--add-local", str(APPS / "basics.py"), "--cpu", "1"),
        )
        assert told == f"told\nbasics.py\n{names[0]}\n"
    finally:
        said(target, "volume", "delete", names[0], "--yes")
        said(target, "secret", "delete", names[1], "--yes")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal shell")
def test_a_shell_enters_a_sandbox_and_a_functions_container(
    target: Target, sandbox_app: modal.App, app: DeployedApp
) -> None:
    sandbox = modal.Sandbox.create(app=sandbox_app, client=target.client, env={"WHOSE": "sandbox"})
    try:
        assert sandbox.exec("touch", "/tmp/mark").wait() == 0
        told = said(target, "shell", "--no-pty", "--cmd", "sh -c 'echo $WHOSE; ls /tmp/mark'", sandbox.object_id)
        assert told == "sandbox\n/tmp/mark\n"
    finally:
        sandbox.terminate()
    container = container_of(target, app)
    assert said(target, "shell", "--no-pty", "--cmd", "sh -c 'echo $GREETING'", container) == "from a function\n"
    gone = target.cli("shell", "--no-pty", "--cmd", "true", sandbox.object_id)
    assert gone.returncode == 1


@pytest.mark.row("CLI", "modal container exec")
def test_a_command_runs_in_a_functions_container(target: Target, app: DeployedApp) -> None:
    container = container_of(target, app)
    told = said(target, "container", "exec", "--no-pty", container, "--", "sh", "-c", "echo $GREETING; ls sandboxes.py")
    assert told == "from a function\nsandboxes.py\n"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal container exec")
@pytest.mark.row("CLI", "modal container list")
@pytest.mark.row("CLI", "modal container stop")
def test_a_sandboxs_container_is_listed_entered_and_stopped(target: Target, sandbox_app: modal.App) -> None:
    sandbox = modal.Sandbox.create(app=sandbox_app, client=target.client)
    assert sandbox.exec("true").wait() == 0
    listed = json.loads(said(target, "container", "list", "--app-id", str(sandbox_app.app_id), "--json"))
    containers = [one["container_id"] for one in listed]
    for container in containers:
        assert said(target, "container", "exec", "--no-pty", container, "--", "echo", "in") == "in\n"
        said(target, "container", "stop", "--yes", container)
    sandbox.wait(raise_on_termination=False)
    assert sandbox.returncode == 137
    again = target.cli("container", "exec", "--no-pty", containers[0], "--", "true")
    assert again.returncode == 1
    assert "has ended" in again.stderr


@pytest.mark.slow
@pytest.mark.row("CLI", "modal shell")
@pytest.mark.row("CLI", "modal container exec")
def test_a_terminal_is_passed_on_to_the_shell(target: Target, app: DeployedApp) -> None:
    told = typed(target, ["shell", "sandboxes.py::greet"], "echo $((6 * 7)) $GREETING; exit\n")
    assert "42 from a function" in told
    container = container_of(target, app)
    told = typed(target, ["container", "exec", container, "--", "bash", "--norc"], "tty; exit\n")
    assert "/dev/pts/" in told


def typed(target: Target, words: list[str], text: str) -> str:
    """What a terminal shows of a command of `modal` that is typed to once it prompts."""
    modal_command = shutil.which("modal", path=str(Path(sys.executable).parent))
    assert modal_command is not None
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(APPS)
        os.execve(modal_command, ["modal", *words], {**target.environment, "TERM": "xterm"})
    shown, sent = b"", False
    deadline = time.monotonic() + SOON
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # it has ended
                break
            shown += data
            if not data:
                break
            if not sent and shown.rstrip(b"\x1b[?2004h ").endswith((b"#", b"$")):
                os.write(terminal, text.encode())
                sent = True
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert status == 0, shown
    return shown.decode()
