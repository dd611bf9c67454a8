"""A server process is started, waited for, watched and stopped; when it cannot start, the caller learns why."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from functions.engines.base import Address, EngineStartError
from functions.engines.process import ServerProcess
from tests.ports import free_port
from tests.service.deployment import ROOT, until

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(sys.argv[2])); self.send_header("content-length", "0"); self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


TRICKLES = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\\r\\nx-long: ")
        for _ in range(250 if self.path == "/health" else 0):
            self.wfile.write(b"a")
            time.sleep(0.02)
        self.wfile.write(b"\\r\\ncontent-length: 0\\r\\n\\r\\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Its health check is answered well, letter by letter, after 5 s."""


def free_address() -> Address:
    return Address(host="127.0.0.1", port=free_port())


def process(source: str, *arguments: str, address: Address | None = None) -> ServerProcess:
    address = address or free_address()
    command = [sys.executable, "-c", source, str(address.port), *arguments]
    return ServerProcess(name="test-engine", command=command, address=address)


def test_it_is_ready_once_its_health_check_answers_and_gone_once_stopped() -> None:
    server = process(SERVER, "200")
    server.start(timeout=20)
    assert server.healthy()
    server.stop()
    server.stop()
    assert not server.healthy()
    server.wait()
    with pytest.raises(OSError), socket.create_connection(("127.0.0.1", server.address.port), timeout=1):
        pass


def test_a_proxy_that_the_environment_names_is_not_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{free_address().host}:{free_port()}")  # nobody is there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = process(SERVER, "200")
    try:
        server.start(timeout=20)
        assert server.healthy()
    finally:
        server.stop()


def test_a_process_that_ends_while_starting_is_reported_with_its_last_line() -> None:
    server = process("print('loading', flush=True); raise SystemExit('the weights are gone')")
    with pytest.raises(EngineStartError, match=r"test-engine exited with code 1 while starting: the weights are gone"):
        server.start(timeout=20)


def test_a_process_that_is_killed_while_starting_is_reported_with_the_signal() -> None:
    server = process("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(EngineStartError, match="was killed by signal 9 while starting: it wrote nothing"):
        server.start(timeout=20)


def test_a_command_that_does_not_exist_is_reported() -> None:
    server = ServerProcess(name="ghost", command=["/nonexistent/engine"], address=free_address())
    with pytest.raises(EngineStartError, match="ghost could not be started"):
        server.start(timeout=1)


def test_one_that_never_gets_healthy_is_stopped() -> None:
    server = process(SERVER, "503")
    with pytest.raises(EngineStartError, match="was not ready within 1 s"):
        server.start(timeout=1)
    server.wait()


def test_one_that_takes_connections_and_never_answers_is_stopped_in_time() -> None:
    silent = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"
    server = process(silent)
    began = time.monotonic()
    with pytest.raises(EngineStartError, match="was not ready within 1 s"):
        server.start(timeout=1)
    assert time.monotonic() - began < 20  # a look at it takes two seconds, and there were to be twenty of them


def test_one_that_answers_its_health_check_byte_by_byte_is_not_well_once_its_time_is_over() -> None:
    server = process(TRICKLES)
    server.ready_path = "/ready"
    server.start(timeout=20)
    assert not server.healthy(0.3)
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="it has a group of its own on Linux")
def test_what_it_has_started_is_killed_once_and_never_what_has_its_number_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    killed: list[int] = []
    server = process(SERVER, "200")
    server.start(timeout=20)
    monkeypatch.setattr(os, "killpg", lambda group, _: killed.append(group))
    server.stop()
    server.stop()
    server.wait()
    assert killed == [server.pid]


def test_one_that_cannot_be_killed_is_told_of_and_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("functions.engines.process.KILL_SECONDS", 0.2)
    server = process(SERVER, "200")
    server.start(timeout=20)
    assert server._process is not None
    with monkeypatch.context() as kernel:  # that does not come back from a driver
        kernel.setattr(server._process, "kill", lambda: None)
        kernel.setattr(os, "killpg", lambda *_: None)
        server.stop(at_once=True)
        assert f"(process {server.pid}) was killed, and is still there" in caplog.text
    server.stop(at_once=True)
    server.wait()


def test_stopping_while_it_starts_ends_the_wait(tmp_path: Path) -> None:
    flag = tmp_path / "up"
    server = process(f"import pathlib, time; pathlib.Path({str(flag)!r}).touch(); time.sleep(60)")
    errors: list[str] = []

    def start() -> None:
        try:
            server.start(timeout=50)
        except EngineStartError as error:
            errors.append(error.message)

    thread = threading.Thread(target=start)
    thread.start()
    while not flag.exists():
        thread.join(0.01)
    server.stop()
    thread.join(10)
    assert errors == ["test-engine was stopped while it started"]


def test_waiting_returns_when_the_process_is_killed() -> None:
    server = process(SERVER, "200")
    server.start(timeout=20)
    watcher = threading.Thread(target=server.wait)
    watcher.start()
    assert server.pid is not None
    os.kill(server.pid, 9)
    watcher.join(10)
    assert not watcher.is_alive()
    assert not server.healthy()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="it has a session of its own on Linux")
@pytest.mark.parametrize("how", ["stopped", "killed", "ends while starting"])
def test_what_a_terminal_tells_us_does_not_reach_it_and_what_it_started_ends_with_it(how: str, tmp_path: Path) -> None:
    note = tmp_path / "child"
    child = (
        "import pathlib, subprocess; child = subprocess.Popen(['sleep', '60']); "
        f"pathlib.Path({str(note)!r}).write_text(f'{{child.pid}}')\n"
    )
    if how == "ends while starting":
        with pytest.raises(EngineStartError):
            process(child + "raise SystemExit('no weights')").start(timeout=20)
    else:
        server = process(child + SERVER, "200")
        server.start(timeout=20)
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)
        assert runs(int(note.read_text()))
        if how == "stopped":
            server.stop()
        else:
            os.kill(server.pid, 9)
            server.wait()
    until(lambda: not runs(int(note.read_text())), within=30)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_it_does_not_outlive_a_parent_that_is_killed() -> None:
    parent = f"""
import sys
from functions.engines.base import Address
from functions.engines.process import ServerProcess
server = ServerProcess(
    name="x", command=[sys.executable, "-c", {SERVER!r}, sys.argv[1], "200"],
    address=Address(host="127.0.0.1", port=int(sys.argv[1])),
)
server.start(timeout=20)
print(server.pid, flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", parent, str(free_port())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
    until(lambda: not Path(f"/proc/{pid}").exists(), within=30)
