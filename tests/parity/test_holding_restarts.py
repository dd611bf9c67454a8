"""An emulator with a state directory goes on where the one before it has stopped."""

from __future__ import annotations

import os
import urllib.request
from typing import TYPE_CHECKING

import pytest
from modal import Cls, Function

from emulator.emulator import Emulator
from emulator.storage.claim import InUseError
from tests.emulator.heart_kit import modal, write_app
from tests.parity.kit import client_of
from tests.ports import lasting_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.timeout(120), pytest.mark.emulator_only("Modal does not restart")]

APP = """
import os
import modal

VERSION = 1
app = modal.App("keeper", tags={"team": "blue"})

@app.function(secrets=[modal.Secret.from_name("who"), modal.Secret.from_dict({"ANONYMOUS": "yes"})])
def told(text):
    return f"{os.environ['WHO']} {os.environ['ANONYMOUS']} {text} {VERSION}"

@app.function()
@modal.asgi_app()
def page():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page %d" % VERSION})
    return application

@app.cls()
class Greeter:
    name: str = modal.parameter(default="you")

    @modal.method()
    def greet(self):
        return f"hello {self.name}"

@app.function(schedule=modal.Period(days=2))
def every_other_day():
    pass
"""


@pytest.mark.row("How it holds", "a restart")
@pytest.mark.slow
def test_what_was_deployed_serves_again_at_its_addresses_with_versions_secrets_and_schedules(tmp_path: Path) -> None:
    state, port = tmp_path / "state", lasting_port()
    write_app(tmp_path, APP)

    def run(*command: str) -> str:
        done = modal(emulator, *command, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with Emulator(state_directory=state, web_port=port) as emulator:
        run("secret", "create", "who", "WHO=me")
        run("environment", "create", "second")
        run("workspace", "proxy-tokens", "create")
        run("deploy", "app.py", "--tag", "first")
        (tmp_path / "app.py").write_text((tmp_path / "app.py").read_text().replace("VERSION = 1", "VERSION = 2"))
        link = run("deploy", "app.py").partition("View Deployment: ")[2].split()[0]
        page = urllib.request.urlopen(link).read().decode()
        assert "<h1>keeper</h1>" in page
        assert f'href="{emulator.web_url("keeper", "page")}"' in page
        url, schedules = emulator.web_url("keeper", "page"), emulator.schedules()
        assert url.endswith(f":{port}")
        history, tokens = run("app", "history", "keeper"), run("workspace", "proxy-tokens", "list", "--json")
        with client_of(emulator.environment) as client:
            Function.from_name("keeper", "told", client=client).autoscaler.update(scaledown_window=77)

    with Emulator(state_directory=state, web_port=port) as emulator:
        assert emulator.web_url("keeper", "page") == url
        assert urllib.request.urlopen(url).read() == b"page 2"
        assert emulator.schedules() == schedules
        assert run("app", "history", "keeper") == history
        assert run("workspace", "proxy-tokens", "list", "--json") == tokens
        assert "second" in run("environment", "list")
        with client_of(emulator.environment) as client:
            told = Function.from_name("keeper", "told", client=client)
            assert told.remote("hears") == "me yes hears 2"
            assert Cls.from_name("keeper", "Greeter", client=client)(name="all").greet.remote() == "hello all"
            record = emulator.core.state.functions[str(told.object_id)]
            assert record.overrides.scaledown_window == 77
        run("app", "rollback", "keeper", "v1")
        assert urllib.request.urlopen(url).read() == b"page 1"

    with Emulator(state_directory=state, web_port=port, web_for="another app") as emulator:
        elsewhere = emulator.web_url("keeper", "page")
        assert elsewhere != url  # the port is for what is deployed now
        assert urllib.request.urlopen(elsewhere).read() == b"page 1"


@pytest.mark.row("How it holds", "two emulators in one state directory")
def test_two_emulators_do_not_use_one_directory(tmp_path: Path) -> None:
    told = f"process {os.getpid()} uses the state in {tmp_path}"
    with Emulator(state_directory=tmp_path), pytest.raises(InUseError, match=told):
        Emulator(state_directory=tmp_path).start()
    with Emulator(state_directory=tmp_path):
        pass
