"""The unmodified `modal` CLI: what people type."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.logs import LogLine

pytestmark = pytest.mark.timeout(100)

APP = """
import sys
import modal
app = modal.App("talkative")

@app.function()
def talk():
    print("to stdout")
    print("to stderr", file=sys.stderr)
    return "done"

@app.function()
def break_down():
    raise KeyError("no such thing")

@app.cls()
class Greeter:
    @modal.method()
    def greet(self, name: str = "nobody"):
        print(f"hello, {name}")

@app.local_entrypoint()
def main():
    print("RETURNED", talk.remote())
"""


@pytest.fixture(scope="module")
def lines() -> list[LogLine]:
    return []


@pytest.fixture(scope="module")
def emulator(lines: list[LogLine]) -> Iterator[Emulator]:
    with Emulator(log=lines.append) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_app(tmp_path, APP)
    return tmp_path


def test_run_streams_the_containers_output_and_leaves_no_container(
    emulator: Emulator, folder: Path, lines: list[LogLine]
) -> None:
    result = modal(emulator, "run", "app.py::main", cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout
    for expected in ("to stdout", "to stderr", "RETURNED done"):
        assert expected in result.stdout
    assert not emulator.containers(app="talkative")
    said = "".join(line.text for line in lines if line.function == "talk" and line.stream == "stdout")
    assert "to stdout\n" in said


def test_run_of_a_method_passes_its_arguments(emulator: Emulator, folder: Path) -> None:
    result = modal(emulator, "run", "-q", "app.py::Greeter.greet", "--name", "world", cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout


def test_run_of_a_function_that_raises_shows_the_exception_and_fails(emulator: Emulator, folder: Path) -> None:
    result = modal(emulator, "run", "app.py::break_down", cwd=folder)
    assert result.returncode != 0
    assert "KeyError: 'no such thing'" in result.stdout + result.stderr


def test_a_deployed_app_is_listed_has_logs_and_can_be_stopped(emulator: Emulator, folder: Path) -> None:
    assert modal(emulator, "deploy", "app.py", cwd=folder).returncode == 0
    listed = json.loads(modal(emulator, "app", "list", "--json", cwd=folder).stdout)
    deployed = [row for row in listed if row["state"] == "deployed"]
    assert [row["description"] for row in deployed] == ["talkative"]
    called = modal(emulator, "run", "-q", "again.py", cwd=write_again(folder))
    assert called.returncode == 0, called.stderr + called.stdout
    assert "to stdout" in modal(emulator, "app", "logs", "talkative", cwd=folder).stdout
    stopped = modal(emulator, "app", "stop", "talkative", "--yes", cwd=folder)
    assert stopped.returncode == 0, stopped.stderr + stopped.stdout
    assert not emulator.containers()
    with pytest.raises(LookupError):
        emulator.web_url("talkative", "talk")


def write_again(folder: Path) -> Path:
    write_app(
        folder,
        """
        import modal
        app = modal.App("again")

        @app.local_entrypoint()
        def main():
            assert modal.Function.from_name("talkative", "talk").remote() == "done"
            try:
                modal.Function.from_name("talkative", "nothing").remote()
            except modal.exception.NotFoundError as error:
                assert "nothing" in str(error)
            else:
                raise AssertionError("a function that is not there was found")
            try:
                modal.Function.from_name("talkative", "Greeter").remote()
            except modal.exception.NotFoundError as error:
                assert "modal.Cls" in str(error)
            else:
                raise AssertionError("a class was found as a function")
            modal.Cls.from_name("talkative", "Greeter")().greet.remote("you")
        """,
        "again.py",
    )
    return folder


def test_secrets_are_created_listed_and_not_overwritten_unasked(emulator: Emulator, folder: Path) -> None:
    assert modal(emulator, "secret", "create", "db", "USER=me", cwd=folder).returncode == 0
    listed = modal(emulator, "secret", "list", "--json", cwd=folder).stdout
    assert "db" in [row["name"] for row in json.loads(listed)]
    again = modal(emulator, "secret", "create", "db", "USER=other", cwd=folder)
    assert again.returncode != 0
    assert modal(emulator, "secret", "create", "--force", "db", "USER=other", cwd=folder).returncode == 0


def test_proxy_tokens_are_created_listed_and_deleted(emulator: Emulator, folder: Path) -> None:
    created = modal(emulator, "workspace", "proxy-tokens", "create", "--name", "ci", cwd=folder)
    assert created.returncode == 0, created.stderr + created.stdout
    key = re.search(r"wk-\w+", created.stdout)
    secret = re.search(r"ws-[\w-]+", created.stdout)
    assert key and secret
    assert emulator.core.state.authorizes(key[0], secret[0])
    assert not emulator.core.state.authorizes(key[0], "ws-guess")
    assert key[0] in modal(emulator, "workspace", "proxy-tokens", "list", cwd=folder).stdout
    deleted = modal(emulator, "workspace", "proxy-tokens", "delete", key[0], "--yes", cwd=folder)
    assert deleted.returncode == 0, deleted.stderr + deleted.stdout
    assert not emulator.core.state.authorizes(key[0], secret[0])


def test_what_is_not_implemented_says_so_by_name_and_is_logged_once(
    emulator: Emulator, folder: Path, lines: list[LogLine]
) -> None:
    for _ in range(2):
        result = modal(emulator, "dict", "list", cwd=folder)
        assert result.returncode != 0
        assert "The emulator does not implement DictList" in result.stdout + result.stderr
    assert len([line for line in lines if "DictList" in line.text]) == 1


@pytest.mark.slow
def test_serve_reloads_on_a_change_and_ends_with_its_client(
    emulator: Emulator, tmp_path: Path, lines: list[LogLine]
) -> None:
    source = """
    import modal
    app = modal.App("served")

    @app.function()
    @modal.fastapi_endpoint()
    def page():
        return "first"
    """
    write_app(tmp_path, source)
    environment = {**os.environ, **emulator.environment, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "modal", "serve", "app.py"]
    serving = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        emulator.wait(lambda: any(address.app == "served" for address in emulator.addresses()), within=30)
        (url,) = [address.url for address in emulator.addresses() if address.app == "served"]
        assert fetch(url) == '"first"'
        write_app(tmp_path, source.replace("first", "second"))
        emulator.wait(lambda: fetch(url) == '"second"', within=30)
    finally:
        serving.send_signal(signal.SIGINT)
        output, _ = serving.communicate(timeout=30)
    assert "Timed out" not in output
    assert not [address for address in emulator.addresses() if address.app == "served"]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        body: bytes = response.read()
        return body.decode()
