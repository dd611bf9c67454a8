"""The service without Modal, as a process of its own: what `make serve` runs."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
import pytest

from functions.listening import ListenError, listen, url_of
from functions.standalone import main
from infra.refusals import is_loopback
from tests.service.deployment import DEMO, ROOT, processes, scripted, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "hello"}]


@dataclass
class Standalone:
    process: subprocess.Popen[str]
    url: str
    log: Path

    def sdk(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = json.dumps(body or {}).encode()
        request = urllib.request.Request(self.url + path, data=data, headers={"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def state(self, model: str) -> str:
        return str(self.get(f"/models/{model}")["state"])

    def stream(self, model: str, **script: Any) -> Any:
        return self.sdk().chat.completions.create(
            model=model, messages=HELLO, stream=True, extra_body={"x_scripted": script}
        )

    def engines(self, marker: str = "") -> list[int]:
        """Its engines' processes."""
        children = subprocess.run(
            ["ps", "-ww", "--ppid", str(self.process.pid), "-o", "pid=,args="],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [int(line.split()[0]) for line in children.splitlines() if "functions" in line and marker in line]


def environment(models: Sequence[Mapping[str, Any]], **settings: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if "__" not in name}
    return {**clean, "SERVER_PORT": "0", "MODELS__AVAILABLE_MODELS": json.dumps(models), **settings}


@contextlib.contextmanager
def running(log: Path, models: Sequence[Mapping[str, Any]], **settings: str) -> Iterator[Standalone]:
    """The service with these models, from its `Ready:` line on; killed at the end if it still runs."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "functions.standalone"], cwd=ROOT, env=environment(models, **settings),
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("Ready: http://127.0.0.1:"), log.read_text()
        yield Standalone(process, line.split()[1], log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(**settings: str) -> str:
    """What it says when it does not start, given these settings."""
    done = subprocess.run(
        [sys.executable, "-m", "functions.standalone"], cwd=ROOT, env=environment([DEMO], **settings),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    folder = tmp_path_factory.mktemp("standalone")
    broken = folder / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(4096))
    models: list[dict[str, Any]] = [
        DEMO,
        {"id": "broken", "name": "broken", "path": str(broken)},
        scripted("steady", scaledown_window=300),
        scripted("brief", scaledown_window=2),
        scripted("warm", min_containers=1),
        scripted("slow-boot", "--boot-seconds", "1", scaledown_window=300),
    ]
    with running(folder / "log", models) as started:
        yield started


def test_the_demo_model_answers_streamed_and_whole_with_the_engine_started_on_demand(service: Standalone) -> None:
    assert service.state("demo") == "cold"
    assert not service.engines("llamacpp_server")
    question: Any = [{"role": "user", "content": "How do I run the tests?"}]
    stream = service.sdk().chat.completions.create(model="demo", messages=question, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "make test" in text
    whole = service.sdk().chat.completions.create(model="demo", messages=question, temperature=0)
    assert whole.choices[0].message.content == text
    assert service.state("demo") == "ready"
    assert len(service.engines("llamacpp_server")) == 1


def test_a_model_with_a_minimum_of_containers_is_there_without_being_asked(service: Standalone) -> None:
    until(lambda: service.state("warm") == "ready")


def test_a_boot_is_told_with_its_phase_and_then_answered(service: Standalone) -> None:
    body = json.dumps({"model": "slow-boot", "messages": HELLO, "stream": True, "x_scripted": {"tokens": 2}}).encode()
    request = urllib.request.Request(
        service.url + "/v1/chat/completions", data=body, headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        first = answer.readline().decode()
        assert first.startswith(": booting (")
        state = service.get("/models/slow-boot")
        assert (state["state"], state["phase"]) == ("booting", "engine")
        assert b"t1 " in answer.read()


@pytest.mark.slow
def test_a_model_that_cannot_start_is_told_with_its_reason_at_once_and_harms_no_other(service: Standalone) -> None:
    for _ in range(2):
        with pytest.raises(openai.APIStatusError) as caught:
            service.sdk().chat.completions.create(model="broken", messages=HELLO)
        assert caught.value.code == "engine_start_failed"
        assert "broken.gguf" in str(caught.value)
    assert service.state("broken") == "failed"
    assert service.get("/readiness")["models_available"] == 5
    assert len(list(service.stream("steady", tokens=2))) > 2


@pytest.mark.slow
def test_an_idle_engine_is_gone_with_its_process_and_the_next_request_boots_another(service: Standalone) -> None:
    list(service.stream("brief", tokens=1))
    (engine,) = service.engines("--model-name brief")
    until(lambda: service.state("brief") == "cold" and not service.engines("--model-name brief"))
    list(service.stream("brief", tokens=1))
    assert service.engines("--model-name brief") not in ([], [engine])


def test_an_engine_that_dies_in_a_stream_is_told_and_the_next_caller_is_served(service: Standalone) -> None:
    stream = service.stream("steady", tokens=1000, gap=0.02)
    next(iter(stream))
    for engine in service.engines("--model-name steady"):
        os.kill(engine, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(stream)
    assert len(list(service.stream("steady", tokens=2))) > 2


@pytest.mark.slow
def test_unloading_a_busy_model_takes_force_and_loading_brings_it_back(service: Standalone) -> None:
    stream = service.stream("steady", tokens=1000, gap=0.02)
    next(iter(stream))
    status, body = service.post("/models/scripted/steady/unload")
    assert (status, body["error"]["code"]) == (409, "model_busy")
    status, model = service.post("/models/scripted/steady/unload?force=true")
    assert (status, model["state"]) == (200, "cold")
    assert not service.engines("--model-name steady")
    with pytest.raises(openai.APIError):
        list(stream)
    status, model = service.post("/models/steady/load?wait=true")
    assert (status, model["state"]) == (200, "ready")
    assert service.engines("--model-name steady")


def test_an_engine_takes_nobody_without_the_key_of_this_start(service: Standalone) -> None:
    list(service.stream("steady", tokens=1))
    (engine,) = service.engines("--model-name steady")
    port = (ROOT / f"/proc/{engine}/cmdline").read_bytes().split(b"\0--port\0")[1].split(b"\0")[0].decode()
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=60)
    assert caught.value.code == 401
    assert b"--api-key" not in (ROOT / f"/proc/{engine}/cmdline").read_bytes()


def test_sigterm_lets_a_stream_end_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path / "log", [scripted("steady")]) as service:
        stream = iter(service.stream("steady", tokens=50, gap=0.02))
        next(stream)
        engines = service.engines()
        service.process.terminate()
        until(lambda: "not_ready" in status_of(service))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).split()[-1] == "t49"
        assert service.process.wait(10) == 0
        assert engines
        assert not any(os.path.exists(f"/proc/{engine}") for engine in engines)  # noqa: PTH110


def status_of(service: Standalone) -> str:
    """The body of the readiness, whatever its status; empty when nobody answers any more."""
    try:
        return json.dumps(service.get("/readiness"))
    except urllib.error.HTTPError as error:
        return error.read().decode()


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_streams(tmp_path: Path) -> None:
    with running(tmp_path / "log", [scripted("steady")]) as service:
        stream = iter(service.stream("steady", tokens=10_000, gap=0.02))
        next(stream)
        engines = service.engines()
        service.process.send_signal(signal.SIGINT)
        until(lambda: "not_ready" in status_of(service))
        service.process.send_signal(signal.SIGINT)
        service.process.wait(10)
        with pytest.raises(openai.APIError):
            list(stream)
        until(lambda: not any(os.path.exists(f"/proc/{engine}") for engine in engines), within=30)  # noqa: PTH110


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
@pytest.mark.slow
def test_engines_do_not_outlive_a_service_that_is_killed(tmp_path: Path) -> None:
    marker = f"orphan-{tmp_path.name}"
    with running(tmp_path / "log", [DEMO, scripted(marker)]) as service:
        list(service.stream(marker, tokens=1))
        service.sdk().completions.create(model="demo", prompt="x", max_tokens=1)
        engines = service.engines()
        assert len(engines) == 2
        service.process.kill()
        until(lambda: not any(os.path.exists(f"/proc/{engine}") for engine in engines), within=30)  # noqa: PTH110
        assert not list(processes(marker))


@pytest.mark.slow
def test_a_service_for_other_machines_needs_keys_or_permission() -> None:
    said = refused(SERVER_HOST="0.0.0.0")
    assert said.startswith("server.host: '0.0.0.0' lets other machines in")
    assert "allow_public = true" in said


@pytest.mark.slow
def test_a_port_that_is_taken_ends_it_with_one_line_that_says_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(SERVER_PORT=str(port))
    assert said.startswith(f"cannot listen on 127.0.0.1 port {port}: Address already in use")
    assert "SERVER_PORT" in said


def test_a_host_that_does_not_exist_is_said() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 'no\.such\.host\.invalid'"):
        listen("no.such.host.invalid", 0)


def test_keys_that_only_a_table_could_hold_are_not_asked_for_without_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODELS__AVAILABLE_MODELS", json.dumps([scripted("m")]))
    monkeypatch.setenv("ENABLE_AUTH", "true")
    assert main(["--check"]) == 2
    assert 'state.kind = "aws"' in capsys.readouterr().err
    monkeypatch.setenv("STATE__KIND", "aws")
    assert main(["--check"]) == 0


def test_a_wrong_configuration_is_one_line_and_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELS__AVAILABLE_MODELS", '[{"id": "x", "name": "x", "path": "/nothing.gguf"}]')
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said == "models.available_models: the path of 'x' leads to nothing: /nothing.gguf\n"


def test_the_settings_can_be_looked_at_and_hold_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret_token")
    monkeypatch.setenv("API_KEY", "sk-secret-key")
    assert main(["--check"]) == 0
    shown = capsys.readouterr().out
    assert json.loads(shown)["deploy"]["target"] == "local"
    assert "hf_secret_token" not in shown
    assert "sk-secret-key" not in shown


@pytest.mark.slow
def test_who_has_seen_enough_of_the_settings_may_stop_reading() -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "functions.standalone", "--check"], cwd=ROOT, env=environment([DEMO]),
            stdout=nobody, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("127.8.8.8", True), ("0.0.0.0", False),
     ("::", False), ("192.168.0.7", False), ("example.com", False)],
)  # fmt: skip
def test_which_hosts_are_this_machine_s_own(host: str, own: bool) -> None:
    assert is_loopback(host) is own


def test_the_address_that_is_told_is_one_that_can_be_dialled() -> None:
    with listen("0.0.0.0", 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def last_words(connection: socket.socket) -> bytes:
    """All that comes until it is closed."""
    heard = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(4096):
            heard += piece
    return heard


def test_connections_beyond_its_open_files_are_closed_at_once_and_it_serves_again_once_slow_ones_are_out(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "log", [scripted("any")], WEB__RECEIVE_TIMEOUT="6") as service:
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (128, 128))
        host, port = service.url.removeprefix("http://").split(":")
        with contextlib.ExitStack() as held:
            halves = [held.enter_context(socket.create_connection((host, int(port)), timeout=40)) for _ in range(200)]
            for one in halves:
                with contextlib.suppress(ConnectionError):
                    one.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
            heard = [last_words(one) for one in halves]
        assert heard.count(b"") > 72
        assert sum(b" 408 " in words for words in heard) == 200 - heard.count(b"") > 64
        assert service.get("/health")
        assert service.process.poll() is None
