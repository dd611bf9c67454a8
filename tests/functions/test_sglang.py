"""SGLang's command line is made from the configuration, and its memory is released and resumed over its routes."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from functions.engines.base import Address, EngineSleepError
from functions.engines.sglang import SGLangEngine, command_line, gpu_count
from infra.settings import Device, Model

ADDRESS = Address(host="0.0.0.0", port=8000)


def line(model: Model, device: Device = "cuda", api_key: str | None = None) -> str:
    command = command_line(model, device=device, source="/models/m", address=ADDRESS, api_key=api_key, max_requests=10)
    return " ".join(command[1:])


def test_the_plain_command_line() -> None:
    assert line(Model(id="m", name="org/m")) == (
        "-m sglang.launch_server --model-path /models/m --served-model-name m --host 0.0.0.0 --port 8000 "
        "--device cuda --context-length 4096 --max-running-requests 10 --enable-cache-report --enable-metrics "
        "--constrained-json-disable-any-whitespace --enable-memory-saver --tensor-parallel-size 1"
    )


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        (Model(id="m", name="n", gpu="H100:2"), "--tensor-parallel-size 2"),
        (Model(id="m", name="n", quantization="bf16"), "--dtype bfloat16"),
        (Model(id="m", name="n", quantization="q4"), "--quantization awq"),
        (Model(id="m", name="n", embedding=True), "--is-embedding"),
        (Model(id="m", name="n", sglang_args=("--tool-call-parser", "qwen25")), "--tool-call-parser qwen25"),
    ],
)
def test_each_setting_becomes_its_flag(model: Model, flags: str) -> None:
    assert flags in line(model)


def test_an_api_key_is_asked_for_and_the_cpu_has_no_memory_saver() -> None:
    text = line(Model(id="m", name="n"), device="cpu", api_key="ek-1")
    assert "--api-key ek-1" in text
    assert "--enable-memory-saver" not in text


def test_on_the_cpu_its_cache_holds_what_all_requests_could_and_it_sleeps_between_them() -> None:
    assert "--max-total-tokens 40960 --sleep-on-idle" in line(Model(id="m", name="n"), device="cpu")


def test_gpu_count() -> None:
    assert [gpu_count(gpu) for gpu in ("L4", "H100:8")] == [1, 8]


def engine(device: Device, address: Address) -> SGLangEngine:
    model = Model(id="m", name="n")
    return SGLangEngine(model, device=device, source="/m", address=address, api_key="ek-1", max_requests=1)


def test_sleep_and_wake_speak_to_the_server_with_its_key() -> None:
    seen: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append((self.path, self.headers.get("authorization")))
            self.send_response(500 if self.path.startswith("/resume") else 200)
            self.send_header("content-length", "0")
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sglang = engine("cuda", Address(host="127.0.0.1", port=server.server_port))
        sglang.sleep()
        with pytest.raises(EngineSleepError, match="did not resume its memory"):
            sglang.wake()
        server.shutdown()
    assert seen == [("/release_memory_occupation", "Bearer ek-1"), ("/resume_memory_occupation", "Bearer ek-1")]


def test_on_the_cpu_it_cannot_sleep() -> None:
    sglang = engine("cpu", ADDRESS)
    assert not sglang.can_sleep
    with pytest.raises(EngineSleepError, match="no memory saver on cpu"):
        sglang.sleep()
