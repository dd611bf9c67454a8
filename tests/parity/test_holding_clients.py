"""Clients of an emulator that goes are told, and end."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.record import read
from tests.emulator.traces import Commanded, commanded
from tests.modal_cli import PLAIN, cli_server, without_modal
from tests.parity.kit import APPS, client_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.emulator_only("it ends the emulator"), pytest.mark.slow]

BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
LOST = ("The emulator was stopped", "Connect call failed", "Could not connect", "Connection lost", "ConnectionError")


@contextmanager
def serving(tmp_path: Path, temporary: Path) -> Iterator[Commanded]:
    (tmp_path / "app.py").write_text("import modal\napp = modal.App('first')\n")
    with commanded("up", "--port", "0", "--no-reload", cwd=tmp_path, temporary=temporary) as command:
        command.says("Ready: ")
        yield command


def is_told(output: str) -> bool:
    return any(text in output for text in LOST)


@BOTH
@pytest.mark.row("How it holds", "a client whose emulator goes")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "lasting.py::one"), "one works"),
        (("run", "lasting.py::many"), "one works"),
        (("run", "lasting.py::items"), "item 0"),
    ],
    ids=["remote", "map", "generator"],
)
def test_modal_run_fails_and_says_why(
    arguments: tuple[str, ...], says: str, number: signal.Signals, tmp_path: Path, temporary: Path
) -> None:
    with serving(tmp_path, temporary) as command:
        environment = {**without_modal(), **PLAIN, **read(tmp_path / ".modal-emulator")}
        with cli_server().start(*arguments, cwd=APPS, env=environment) as run:
            run.wait_for(says)
            command.send(number)
            assert run.wait(within=30) != 0
            assert is_told(run.output), run.output


@BOTH
@pytest.mark.row("How it holds", "a client whose emulator goes")
def test_modal_app_logs_ends_and_modal_serve_says_that_nobody_is_there(
    number: signal.Signals, tmp_path: Path, temporary: Path
) -> None:
    with serving(tmp_path, temporary) as command:
        environment = {**without_modal(), **PLAIN, **read(tmp_path / ".modal-emulator")}
        server = cli_server()
        with (
            server.start("serve", "private.py", cwd=APPS, env=environment) as serve,
            server.start("app", "logs", "-f", "first", cwd=APPS, env=environment) as logs,
        ):
            serve.wait_for("Watching ")
            command.send(number)
            logs.wait(within=30)
            serve.wait_for("Connect call failed", within=40)  # it goes on to watch the source: so is this client


@BOTH
@pytest.mark.row("How it holds", "a client whose emulator goes")
def test_a_call_of_the_sdk_raises(number: signal.Signals, tmp_path: Path, temporary: Path) -> None:
    with serving(tmp_path, temporary) as command:
        environment = {**without_modal(), **PLAIN, **read(tmp_path / ".modal-emulator")}
        assert cli_server().run("deploy", "lasting.py", cwd=APPS, env=environment).returncode == 0
        client = client_of(environment)
        call = modal.Function.from_name("lasting", "work", client=client).spawn(1)
        command.says("one works")
        command.send(number)
        with pytest.raises((modal.exception.Error, ConnectionError, OSError)) as raised:
            call.get(timeout=40)
        assert not isinstance(raised.value, TimeoutError), "it has waited for all of its time"
        client.close()
