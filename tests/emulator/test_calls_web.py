"""Web functions, classes and Servers of a deployed app, over real HTTP, in real containers."""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(120)

APP = """
import os
import modal

VERSION = 1
app = modal.App("site")
secret = modal.Secret.from_dict({"WHO": "me"})

@app.function(secrets=[secret])
@modal.asgi_app()
def bare():
    async def application(scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-who", os.environ["WHO"].encode())]})
        for part in (b"one ", b"two ", scope["path"].encode(), b" ", body):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})
    return application

@app.cls(enable_memory_snapshot=True, max_containers=1)
@modal.concurrent(max_inputs=50)
class Site:
    @modal.enter(snap=True)
    def build(self):
        from fastapi import FastAPI
        self.application = FastAPI()

        @self.application.get("/")
        async def index():
            return {"server": await server.get_url.aio(), "version": VERSION, "pid": os.getpid()}

    @modal.asgi_app()
    def serve(self):
        return self.application

class Engine:
    @modal.enter()
    def start(self):
        import subprocess, sys
        code = (
            "import http.server, os, sys\\n"
            "class H(http.server.BaseHTTPRequestHandler):\\n"
            "    def do_GET(self):\\n"
            "        self.send_response(200); self.end_headers()\\n"
            "        self.wfile.write((os.environ['MODEL'] + ' ' + str(os.getppid())).encode())\\n"
            "http.server.ThreadingHTTPServer(('127.0.0.1', 8000), H).serve_forever()\\n"
        )
        self.process = subprocess.Popen([sys.executable, "-c", code])

    @modal.exit()
    def stop(self):
        print("engine stopped")
        self.process.terminate()

options = dict(port=8000, unauthenticated=True, routing_region="us-east", scaledown_window=SCALEDOWN)
server = app.server(name="engine-a", env={"MODEL": "a"}, **options)(Engine)
other = app.server(name="engine-b", env={"MODEL": "b"}, **options)(Engine)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def emulator(folder: Path) -> Iterator[Emulator]:
    with Emulator() as running:
        deploy(running, folder)
        yield running


def deploy(emulator: Emulator, folder: Path, *, version: int = 1, scaledown: int = 60) -> None:
    source = APP.replace("VERSION = 1", f"VERSION = {version}").replace("SCALEDOWN", str(scaledown))
    write_app(folder, source)
    result = modal(emulator, "deploy", "app.py", cwd=folder)
    assert result.returncode == 0, result.stderr + result.stdout


def get(url: str, *, data: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def get_once_booted(url: str) -> bytes:
    deadline = time.monotonic() + 30
    while (answer := get(url))[0] == 503:
        assert time.monotonic() < deadline
    assert answer[0] == 200
    return answer[1]


def test_a_class_serves_many_requests_from_one_container_and_knows_its_servers_address(emulator: Emulator) -> None:
    url = emulator.web_url("site", "Site")
    answers = [json.loads(get(url)[1]) for _ in range(5)]
    assert {answer["server"] for answer in answers} == {emulator.web_url("site", "engine-a")}
    assert len({answer["pid"] for answer in answers}) == 1


def test_two_servers_on_the_same_fixed_port_answer_each_for_itself(emulator: Emulator) -> None:
    if not _isolated():
        pytest.skip("this machine has no network namespaces: Servers on one port collide, and the emulator says so")
    for name, model in (("engine-a", b"a"), ("engine-b", b"b")):
        assert get_once_booted(emulator.web_url("site", name)).split()[0] == model


def _isolated() -> bool:
    return os.geteuid() == 0 and Path("/proc/self/ns/net").exists()


def test_a_killed_server_is_replaced_for_the_next_request(emulator: Emulator) -> None:
    url = emulator.web_url("site", "engine-a")
    get_once_booted(url)
    (before,) = emulator.containers(function="engine-a")
    emulator.kill_container(before.task_id)
    emulator.wait(lambda: not emulator.containers(function="engine-a"))
    get_once_booted(url)
    (after,) = emulator.containers(function="engine-a")
    assert after.task_id != before.task_id


@pytest.mark.slow
def test_a_redeploy_turns_containers_over_under_the_same_addresses_and_idle_servers_leave(
    emulator: Emulator, folder: Path
) -> None:
    site, engine = emulator.web_url("site", "Site"), emulator.web_url("site", "engine-a")
    assert json.loads(get(site)[1])["version"] == 1
    get_once_booted(engine)
    old = {info.task_id for info in emulator.containers()}
    deploy(emulator, folder, version=2, scaledown=2)
    assert (emulator.web_url("site", "Site"), emulator.web_url("site", "engine-a")) == (site, engine)
    assert json.loads(get(site)[1])["version"] == 2
    emulator.wait(lambda: not old & {info.task_id for info in emulator.containers()}, within=20)
    emulator.wait(lambda: not emulator.containers(function="engine-a"), within=20)
    get_once_booted(engine)


@pytest.mark.slow
def test_stopping_leaves_no_process_no_port_and_no_file(tmp_path: Path) -> None:
    write_app(tmp_path, APP.replace("SCALEDOWN", "60"))
    emulator = Emulator(log=lambda _: None)
    emulator.start()
    try:
        assert modal(emulator, "deploy", "app.py", cwd=tmp_path).returncode == 0
        get_once_booted(emulator.web_url("site", "engine-a"))
        get(emulator.web_url("site", "bare"))
        pids = [info.pid for info in emulator.containers() if info.pid is not None]
        server, urls = emulator.server_url, [emulator.web_url("site", "bare"), emulator.environment["AWS_ENDPOINT_URL"]]
        temporary = Path(emulator.environment["MODAL_CONFIG_PATH"]).parent
        assert len(pids) == 2
        assert temporary.exists()
    finally:
        emulator.stop()
    assert not temporary.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    for url in (server, *urls):
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(url, timeout=5)
    emulator.stop()


@pytest.mark.slow
def test_volumes_stay_in_a_state_directory_that_is_named_relatively(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_app(
        tmp_path,
        """
        import modal
        app = modal.App("keeper")
        volume = modal.Volume.from_name("kept", create_if_missing=True)

        @app.function(volumes={"/kept": volume})
        def note():
            with open("/kept/notes", "a") as file:
                file.write("noted\\\\n")
            volume.commit()
            return open("/kept/notes").read().count("noted")

        @app.local_entrypoint()
        def main():
            print("NOTES", note.remote())
        """,
    )
    for expected in ("NOTES 1", "NOTES 2"):
        with Emulator(state_directory=Path("state")) as emulator:
            result = modal(emulator, "run", "app.py", cwd=tmp_path)
            assert expected in result.stdout, result.stdout + result.stderr
