"""SGLang's command line is made from the configuration, and its memory is released and resumed over its routes."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from functions.engines.base import Address, EngineSleepError, EngineStartError
from functions.engines.sglang import SGLangEngine
from functions.engines.sglang_command import Sources, command_line
from functions.weights import Hub, Local, plan
from functions.weights_beside import adapters_of, draft_of
from infra.settings import Device, Model
from tests.functions.test_watch import NOT_HTTP, answer, listening
from tests.ports import free_port

ADDRESS = Address(host="0.0.0.0", port=8000)


def line(model: Model, device: Device = "cuda") -> str:
    sources = Sources(model="/models/m", draft="/draft", adapters={"fr": "/adapters/fr"})
    command = command_line(model, device=device, sources=sources, address=ADDRESS, max_requests=10, further_file=None)
    return " ".join(command[1:])


def test_the_plain_command_line() -> None:
    assert line(Model(id="m", name="org/m")) == (
        "-m sglang.launch_server --model-path /models/m --served-model-name m --host 0.0.0.0 --port 8000 "
        "--device cuda --context-length 4096 --max-running-requests 10 --constrained-json-disable-any-whitespace "
        "--enable-cache-report --enable-metrics --tensor-parallel-size 1"
    )


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        ({"gpu": "H100:2"}, "--tensor-parallel-size 2"),
        ({"gpu": "H100:4", "sglang": {"data_parallel": 2}}, "--tensor-parallel-size 2 --data-parallel-size 2"),
        ({"quantization": "bf16"}, "--dtype bfloat16"),
        ({"quantization": "q8"}, "--quantization fp8"),
        ({"quantization": "q8", "sglang": {"quantization": "w8a8_fp8"}}, "--quantization w8a8_fp8"),
        ({"embedding": True}, "--is-embedding"),
        ({"sglang": {"tool_call_parser": "qwen25"}}, "--tool-call-parser qwen25"),
        ({"sglang": {"prefix_cache": False}}, "--disable-radix-cache"),
        ({"sglang": {"max_running_requests": 4}}, "--max-running-requests 4"),
        (
            {"sglang": {"hierarchical_cache": {"enabled": True, "size_gb": 64}}},
            "--enable-hierarchical-cache --hicache-size 64",
        ),
        (
            {"sglang": {"lora": {"adapters": {"fr": {"name": "org/fr"}}}}},
            "--enable-lora --lora-paths fr=/adapters/fr --max-loras-per-batch 8",
        ),
        (
            {"sglang": {"speculative": {"algorithm": "EAGLE3", "draft_model": "org/draft"}}},
            "--speculative-algorithm EAGLE3 --speculative-draft-model-path /draft",
        ),
        (
            {"sglang": {"flags": {"page-size": 64, "enable-mixed-chunk": True, "lora-strict-loading": False}}},
            "--page-size=64 --enable-mixed-chunk --no-lora-strict-loading",
        ),
        ({"sglang": {"flags": {"cuda-graph-bs-decode": [1, 2, 4]}}}, "--cuda-graph-bs-decode 1 2 4"),
    ],
)
def test_each_setting_becomes_its_flag(options: dict[str, Any], flags: str) -> None:
    assert flags in line(Model.model_validate({"id": "m", "name": "n", **options}))


@pytest.mark.parametrize(
    ("options", "repository"),
    [
        ({"name": "org/m"}, "org/m"),
        ({"name": "org/m", "quantization": "q8"}, "org/m"),
        ({"name": "org/m", "quantization": "q4"}, "org/m-AWQ"),
        ({"name": "org/m-GPTQ-Int4", "quantization": "q4"}, "org/m-GPTQ-Int4"),
        ({"name": "org/m", "quantization": "q4", "sglang": {"repository": "other/m-w4a16"}}, "other/m-w4a16"),
    ],
)
def test_a_checkpoint_of_four_bits_lies_beside_the_whole_one(options: dict[str, Any], repository: str) -> None:
    source = plan(Model.model_validate({"id": "m", **options}), "sglang")
    assert isinstance(source, Hub)
    assert source.repository == repository


def test_what_is_loaded_beside_a_model_is_pinned_as_the_model_is() -> None:
    model = Model.model_validate(
        {
            "id": "m", "name": "org/m",
            "sglang": {
                "speculative": {"algorithm": "EAGLE3", "draft_model": "org/draft", "draft_revision": "abc"},
                "lora": {"adapters": {"fr": {"name": "org/fr", "revision": "def"}, "here": {"name": "/adapters/x"}}},
            },
        }
    )  # fmt: skip
    draft, adapters = draft_of(model), adapters_of(model)
    assert isinstance(draft, Hub)
    assert (draft.repository, draft.revision) == ("org/draft", "abc")
    assert isinstance(french := adapters["fr"], Hub)
    assert (french.repository, french.revision) == ("org/fr", "def")
    assert adapters["here"] == Local(path=Path("/adapters/x"))


def test_its_key_is_in_a_file_for_this_user_alone_while_it_runs_and_not_on_its_command_line(tmp_path: Path) -> None:
    sglang = engine("cpu", Address(host="127.0.0.1", port=free_port()))
    told = sglang.process.command
    assert "ek-1" not in " ".join(told)
    assert told[told.index("--config") + 1] == str(sglang.key_file)
    assert not sglang.key_file.exists()
    seen: list[tuple[int, object]] = []

    def start(_: float) -> None:
        seen.append((sglang.key_file.stat().st_mode & 0o777, json.loads(sglang.key_file.read_text())))

    with mock.patch.object(sglang.process, "start", start):
        sglang.start()
    assert seen == [(0o600, {"api-key": "ek-1"})]
    sglang.stop()
    assert not sglang.key_file.exists()


def test_its_key_is_gone_with_one_that_could_not_start_and_is_written_over_nothing(tmp_path: Path) -> None:
    sglang = engine("cpu", Address(host="127.0.0.1", port=free_port()))
    with (
        mock.patch.object(sglang.process, "start", side_effect=EngineStartError("no")),
        pytest.raises(EngineStartError),
    ):
        sglang.start()
    assert not sglang.key_file.exists()
    sglang.key_file = tmp_path / "there.yaml"
    sglang.key_file.symlink_to(tmp_path / "of another")
    with pytest.raises(EngineStartError, match="key cannot be written"):
        sglang.start()
    assert not (tmp_path / "of another").exists()


def test_where_something_listens_already_that_is_not_taken_for_it_nor_told_its_key() -> None:
    for other in listening(answer("200 OK", "")):
        sglang = engine("cpu", other.address)
        with pytest.raises(EngineStartError, match=rf"SGLang cannot listen at 127\.0\.0\.1:{other.address.port}: "):
            sglang.start()
        assert sglang.process.pid is None
        assert not sglang.key_file.exists()


def test_it_is_given_the_time_in_which_it_looks_for_the_word_to_end() -> None:
    assert 5 + 5 < engine("cuda", ADDRESS).process.stop_seconds < 30 - 15, "of the end of a container"


def test_on_the_cpu_its_cache_holds_what_all_requests_could_and_it_sleeps_between_them() -> None:
    assert "--sleep-on-idle --max-total-tokens 40960" in line(Model(id="m", name="n"), device="cpu")


def engine(device: Device, address: Address, *, snapshot: bool = False) -> SGLangEngine:
    model = Model(id="m", name="n", snapshot=snapshot)
    return SGLangEngine(
        model, device=device, sources=Sources(model="/m"), address=address, api_key="ek-1", max_requests=1
    )


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
        sglang = engine("cuda", Address(host="127.0.0.1", port=server.server_port), snapshot=True)
        sglang.sleep()
        with pytest.raises(EngineSleepError, match="did not resume its memory"):
            sglang.wake()
        server.shutdown()
    assert seen == [("/release_memory_occupation", "Bearer ek-1"), ("/resume_memory_occupation", "Bearer ek-1")]


def test_one_that_answers_no_http_is_one_that_does_not_sleep() -> None:
    for server in listening(NOT_HTTP):
        with pytest.raises(EngineSleepError, match="did not release its memory: what it answers is no HTTP"):
            engine("cuda", server.address, snapshot=True).sleep()


def test_it_does_not_ask_hugging_face_unless_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (engine("cuda", ADDRESS).process.environment or {})["HF_HUB_OFFLINE"] == "1"
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert (engine("cuda", ADDRESS).process.environment or {})["HF_HUB_OFFLINE"] == "0"


@pytest.mark.parametrize(
    ("device", "snapshot", "why"), [("cpu", True, "it has none on cpu"), ("cuda", False, "the model has no `snapshot")]
)
def test_where_it_is_in_no_snapshot_it_has_no_memory_saver_and_cannot_sleep(
    device: Device, snapshot: bool, why: str
) -> None:
    sglang = engine(device, ADDRESS, snapshot=snapshot)
    assert not sglang.can_sleep
    assert "--enable-memory-saver" not in sglang.process.command
    with pytest.raises(EngineSleepError, match=f"no memory saver: {why}"):
        sglang.sleep()
    assert "--enable-memory-saver" in engine("cuda", ADDRESS, snapshot=True).process.command
