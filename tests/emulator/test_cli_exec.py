"""`emulator exec`: a fresh emulator around a command, transparent to whoever calls it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from emulator.child import environment_for
from tests.emulator.cli_kit import all_gone, call, running

HELLO = """
import modal

app = modal.App("ten-lines")


@app.function()
def double(x):
    print("doubling", x)
    return 2 * x


@app.local_entrypoint()
def main(x: int):
    print("result", double.remote(x))
"""


@pytest.mark.slow
async def test_modal_run_of_an_app_works_and_its_output_is_the_commands(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text(HELLO)
    status, out, err = await call("exec", "--", "modal", "run", "hello.py", "--x", "21", cwd=tmp_path)
    assert status == 0, out + err
    assert "result 42" in out
    assert (out + err).count("doubling 21") == 1  # the client shows what containers write: it is not told twice


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (("sh", "-c", "exit 7"), 7, ""),
        (("sh", "-c", "kill -9 $$"), 137, ""),
        (("no-such-command",), 127, "emulator: no-such-command: no such command\n"),
    ],
    ids=["exit code", "signal", "no command"],
)
@pytest.mark.slow
async def test_it_exits_as_the_command_does(command: tuple[str, ...], status: int, said: str, tmp_path: Path) -> None:
    assert await call("exec", "--", *command, cwd=tmp_path) == (status, "", said)


@pytest.mark.slow
async def test_a_signal_is_the_commands_to_handle_and_nothing_is_left(tmp_path: Path) -> None:
    script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    async with running("exec", "--", "sh", "-c", script, cwd=tmp_path) as command:
        await command.says("ready")
        below = await command.descendants()
        command.process.send_signal(signal.SIGTERM)
        assert await command.ends() == 5
        assert "caught" in command.text
        await all_gone(below)


@pytest.mark.slow
async def test_options_after_the_command_are_the_commands(tmp_path: Path) -> None:
    assert await call("exec", "--quiet", "echo", "--port", "x", cwd=tmp_path) == (0, "--port x\n", "")


async def test_wrong_use_is_one_line_and_status_2(tmp_path: Path) -> None:
    status, out, err = await call("exec", cwd=tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_a_command_sees_nothing_of_the_callers_accounts() -> None:
    mine = {"MODAL_TOKEN_ID": "ak-real", "AWS_PROFILE": "prod", "HOME": "/h", "MODAL_LOGLEVEL": "DEBUG", "PATH": "/bin"}
    seen = environment_for({"MODAL_TOKEN_ID": "ak-emulator"}, mine)
    assert seen.pop("PATH").startswith("/bin:")
    assert seen == {"MODAL_TOKEN_ID": "ak-emulator", "HOME": "/h", "MODAL_LOGLEVEL": "DEBUG"}
