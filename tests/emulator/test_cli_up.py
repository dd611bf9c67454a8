"""`emulator up`: an app at its address, deployed again when its source changes, and nothing left behind."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from emulator.emulator import ScheduledRun, WebAddress
from emulator.problem import Problem
from emulator.record import read
from emulator.up import banner
from tests.emulator.cli_kit import all_gone, call, running
from tests.ports import free_port

APP = """
import modal

app = modal.App("tiny")


@app.function()
@modal.asgi_app()
def web():
    from helper import VERSION

    async def answer(scope, receive, send):
        print("asked", scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": VERSION.encode()})

    return answer
"""

# The helper is in the image because it is added to it: as on Modal, nothing else of the folder is.
APP = APP.replace(
    'modal.App("tiny")', 'modal.App("tiny", image=modal.Image.debian_slim().add_local_python_source("helper"))'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "helper.py").write_text("VERSION = 'one'\n")
    return tmp_path


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return await response.text()


@pytest.mark.slow
async def test_an_app_is_deployed_deployed_again_on_change_and_gone_after_ctrl_c(folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    arguments = ("--port", str(port), "--before", "echo before at $MODAL_SERVER_URL", "--ready-path", "/health")
    async with running("up", *arguments, cwd=folder) as up:
        ready = await up.says(r"^Ready: (\S+)$")
        assert ready[1] == url
        assert re.search(r"^before at http://127\.0\.0\.1:\d+$", up.text, re.MULTILINE)
        assert await get(url) == "one"
        await up.says(r"^web \w+ \| asked /$")

        assert read(folder / ".modal-emulator")["MODAL_SERVER_URL"].startswith("http://127.0.0.1:")

        before = len(up.text)
        (folder / "helper.py").write_text("VERSION = 'two'\n")
        await up.says("helper.py changed: deploying again", after=before)
        await up.says(f"deployed again: {url}", after=before)
        assert await get(url) == "two"

        before = len(up.text)
        (folder / "app.py").write_text("1 / 0\n")
        await up.says("deploying failed with exit status 1: what was deployed before keeps running", after=before)
        assert "ZeroDivisionError" in up.text[before:]
        assert await get(url) == "two"

        below = await up.descendants()
        up.process.send_signal(signal.SIGINT)
        assert await up.ends() == 0
        await all_gone(below)
    with pytest.raises(Problem, match="no emulator runs in"):
        read(folder / ".modal-emulator")


@pytest.mark.slow
async def test_a_stop_in_the_middle_of_starting_ends_what_was_started(folder: Path) -> None:
    async with running("up", "--port", "0", "--before", "echo started; sleep 1000", cwd=folder) as up:
        await up.says("^started")
        below = await up.descendants()
        up.process.send_signal(signal.SIGTERM)
        assert await up.ends() == 0
        await all_gone(below)


@pytest.mark.slow
async def test_a_second_ctrl_c_does_not_wait(folder: Path) -> None:
    stubborn = "trap '' TERM; echo started; while :; do sleep 0.1; done"
    async with running("up", "--port", "0", "--before", stubborn, cwd=folder) as up:
        await up.says("^started")
        below = await up.descendants()
        up.process.send_signal(signal.SIGINT)
        await up.says("stopping$")
        up.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(3):
            assert await up.ends() == 130
        await all_gone(below)


@pytest.mark.slow
async def test_what_can_not_work_is_one_line_that_says_what_to_do(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status, out, err = await call("up", "--port", str(port), cwd=folder)
    assert (status, out) == (1, "")
    advice = "stop what listens there, or choose another with --port"
    assert err == f"emulator: port {port} of 127.0.0.1 is already in use: {advice}\n"

    status, out, err = await call("up", "--port", "0", "--before", "exit 3", cwd=folder)
    assert (status, out) == (1, "")
    assert err.splitlines()[-1] == "emulator: `exit 3` failed with exit status 3: nothing was deployed"

    status, out, err = await call("up", "none.py", cwd=folder)
    assert (status, out) == (2, "")
    assert err == "emulator: none.py: no such file; name the app's: emulator up path/to/app.py\n"


@pytest.mark.slow
async def test_an_app_that_can_not_boot_is_told_at_once_and_why(folder: Path) -> None:
    (folder / "helper.py").write_text("raise RuntimeError('no weights here')\n")
    arguments = ("--port", "0", "--ready-path", "/health")
    async with asyncio.timeout(40):
        status, out, err = await call("up", *arguments, cwd=folder)
    assert status == 1
    assert "Ready" not in out
    assert "can not answer: HTTP 500" in err
    assert "no weights here" in err.split("can not answer")[1]


SERVERS = """
import subprocess
import modal

app = modal.App("servers")


class Files:
    @modal.enter()
    def start(self):
        self.process = subprocess.Popen(["python3", "-m", "http.server", "8000"])

    @modal.exit()
    def stop(self):
        self.process.terminate()


app.server(name="engine", port=8000)(Files)
app.server(name="face", port=8000, unauthenticated=True, min_containers=1, env={"FACE": "1"})(Files)
"""


@pytest.mark.slow
async def test_the_server_that_takes_anybody_has_the_port_and_is_what_is_ready(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SERVERS)
    port = free_port()
    async with running("up", "--port", str(port), "--ready-path", "/", "--no-reload", cwd=tmp_path) as up:
        ready = await up.says(r"^Ready: (\S+)$")
        assert ready[1] == f"http://127.0.0.1:{port}"
        assert re.search(rf"^server\s+face\s+{re.escape(ready[1])}$", up.text, re.MULTILINE)
        assert "Directory listing" in await get(ready[1])


def test_what_is_up_is_told_with_its_addresses_and_what_runs_by_itself() -> None:
    noon = datetime(2026, 3, 1, 12).astimezone()
    lines = banner(
        [WebAddress("app", "web", "", "http://127.0.0.1:3000", is_server=False)],
        [
            ScheduledRun("app", "nightly", "Cron('0 12 * * *')", noon.timestamp()),
            ScheduledRun("app", "once", "Period(years=9000)", None),
        ],
        "http://127.0.0.1:3000",
    )
    assert lines == [
        "web     web      http://127.0.0.1:3000",
        f"runs    nightly  Cron('0 12 * * *'), next at 2026-03-01 12:00:00 {noon.tzname()}",
        "runs    once     Period(years=9000), never again",
        "Ready: http://127.0.0.1:3000",
    ]
