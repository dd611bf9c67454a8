"""llama.cpp's server with the demo model: it answers, it frees what callers leave, and what cannot start says why."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from functions.demo import GGUF, MODEL_FOLDER
from functions.engine_metrics import ask
from functions.engines.base import Address, EngineSleepError, EngineStartError
from functions.engines.llamacpp import BATCH, LlamaCppEngine, threads_for
from functions.engines.llamacpp_server import Options, parse
from functions.engines.readings import LLAMACPP, read
from infra.metric_snapshots import UNIT
from infra.settings import Model
from tests.functions.gguf_parts import split

if TYPE_CHECKING:
    from collections.abc import Iterator

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}
ENDLESS = {"max_tokens": 3000, "ignore_eos": True, "stream": True}
KEY = "engine-key"


def make_engine(
    source: Path = MODEL_FOLDER, *, api_key: str | None = None, address: Address | None = None
) -> LlamaCppEngine:
    if address is None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = Address(host="127.0.0.1", port=probe.getsockname()[1])
    model = Model(id="demo", name="demo", context_length=4096, startup_timeout=30)
    return LlamaCppEngine(model, source=str(source), address=address, api_key=api_key, max_requests=3)


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaCppEngine]:
    engine = make_engine(api_key=KEY)
    engine.start()
    yield engine
    engine.stop()


class Call:
    """One request on a connection of its own, whose caller can leave."""

    def __init__(self, engine: LlamaCppEngine, path: str, body: dict[str, Any] | None, *, key: str = KEY) -> None:
        self.connection = HTTPConnection(engine.address.host, engine.address.port, timeout=30)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self.connection.request(
            "GET" if body is None else "POST", path, None if body is None else json.dumps(body), headers
        )
        self.response: HTTPResponse = self.connection.getresponse()

    def json(self) -> Any:
        return json.load(self.response)

    def events(self) -> Iterator[str]:
        for line in self.response:
            if line.startswith(b"data: "):
                yield line[6:].decode().rstrip()

    def leave(self) -> None:
        self.response.close()
        self.connection.close()


def chat(engine: LlamaCppEngine, **body: Any) -> Call:
    return Call(engine, "/v1/chat/completions", {**HELLO, **body})


def until_idle(engine: LlamaCppEngine, deadline: float = 10.0) -> float:
    """Seconds until it works on nothing."""
    started = time.monotonic()
    while engine.busy():
        assert time.monotonic() - started < deadline, "the engine is still at work"
    return time.monotonic() - started


def test_a_question_is_answered_in_openai_s_form_with_the_cached_tokens_told(engine: LlamaCppEngine) -> None:
    answer = chat(engine, temperature=0).json()
    assert answer["model"] == "demo"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] > 0
    assert isinstance(answer["usage"]["prompt_tokens_details"]["cached_tokens"], int)


def test_a_stream_ends_with_a_finish_reason_the_usage_and_done(engine: LlamaCppEngine) -> None:
    *chunks, done = chat(engine, stream=True, temperature=0, stream_options={"include_usage": True}).events()
    read = [json.loads(chunk) for chunk in chunks]
    assert done == "[DONE]"
    assert read[0]["choices"][0]["delta"]["role"] == "assistant"
    assert read[-2]["choices"][0]["finish_reason"] == "stop"
    assert read[-1]["choices"] == []
    assert read[-1]["usage"]["completion_tokens"] > 1


def test_the_second_turn_finds_the_first_in_the_prefix_cache(engine: LlamaCppEngine) -> None:
    system = {"role": "system", "content": "A conversation that no other test has. " * 8}
    first = chat(engine, messages=[system, *HELLO["messages"]], temperature=0).json()
    talk = [system, *HELLO["messages"], first["choices"][0]["message"], {"role": "user", "content": "Thanks"}]
    second = chat(engine, messages=talk, temperature=0).json()
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"]


def test_a_completion_continues_a_prompt(engine: LlamaCppEngine) -> None:
    answer = Call(engine, "/v1/completions", {"prompt": "Hello", "max_tokens": 8, "temperature": 0}).json()
    assert answer["choices"][0]["text"]


def test_it_answers_to_the_model_s_id(engine: LlamaCppEngine) -> None:
    assert [model["id"] for model in Call(engine, "/v1/models", None).json()["data"]] == ["demo"]


def test_nobody_gets_in_without_its_key(engine: LlamaCppEngine) -> None:
    assert Call(engine, "/v1/chat/completions", dict(HELLO), key="another").response.status == 401


def test_its_key_is_not_on_its_command_line(engine: LlamaCppEngine) -> None:
    assert engine.process is not None
    assert not any(KEY in part for part in engine.process.command)


def test_a_bad_request_is_a_400_that_says_what_is_wrong(engine: LlamaCppEngine) -> None:
    call = Call(engine, "/v1/chat/completions", {"messages": 5})
    assert call.response.status == 400
    assert "messages" in call.json()["error"]["message"]


def test_a_prompt_beyond_the_context_is_a_400_and_not_a_cut_prompt(engine: LlamaCppEngine) -> None:
    call = chat(engine, messages=[{"role": "user", "content": "word " * 9000}])
    assert call.response.status == 400
    assert call.json()["error"]["type"] == "exceed_context_size_error"


def test_requests_beyond_the_slots_wait_and_are_all_answered(engine: LlamaCppEngine) -> None:
    answers: list[Any] = []
    ask = [threading.Thread(target=lambda: answers.append(chat(engine, temperature=0).json())) for _ in range(8)]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join()
    assert len({answer["choices"][0]["message"]["content"] for answer in answers}) == 1
    assert len(answers) == 8


def test_a_caller_that_leaves_while_it_decodes_frees_it_within_100_ms(engine: LlamaCppEngine) -> None:
    taken = []
    for _ in range(3):
        call = chat(engine, **ENDLESS)
        events = call.events()
        for _ in range(5):
            next(events)
        assert engine.busy() == 1
        call.leave()
        taken.append(until_idle(engine))
    assert min(taken) < 0.1, taken


def test_a_caller_that_leaves_while_it_reads_the_prompt_frees_it_within_a_batch(engine: LlamaCppEngine) -> None:
    call = Call(
        engine, "/v1/completions", {**ENDLESS, "prompt": " ".join(f"w{n}" for n in range(800)), "return_progress": True}
    )
    events = call.events()
    progress = json.loads(next(events))["prompt_progress"]
    while progress["processed"] == 0:
        progress = json.loads(next(events))["prompt_progress"]
    assert progress["processed"] == BATCH
    batches_left = (progress["total"] - progress["processed"]) / BATCH
    assert batches_left > 20
    a_batch = progress["time_ms"] / 1000
    call.leave()
    assert until_idle(engine) < 0.1 + 4 * a_batch


def test_one_stream_s_leaving_leaves_the_others_alone(engine: LlamaCppEngine) -> None:
    staying, going = chat(engine, **{**ENDLESS, "max_tokens": 150}), chat(engine, **ENDLESS)
    going.leave()
    *_, last, done = staying.events()
    assert done == "[DONE]"
    assert json.loads(last)["choices"][0]["finish_reason"] == "length"


def test_stopping_in_the_middle_of_a_stream_ends_it_and_frees_the_port() -> None:
    engine = make_engine()
    engine.start()
    call = chat(engine, **ENDLESS)
    next(call.events())
    engine.stop()
    engine.stop()
    engine.wait()
    assert not engine.healthy()
    with pytest.raises(Exception):  # noqa: B017 - a reset or a cut, as the kernel likes
        assert list(call.events())[-1] == "[DONE]"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((engine.address.host, engine.address.port), timeout=1)


def test_a_crash_is_noticed_and_takes_nobody_along() -> None:
    engine = make_engine()
    engine.start()
    assert engine.process is not None and engine.process.pid is not None
    os.kill(engine.process.pid, signal.SIGSEGV)
    engine.wait()
    assert not engine.healthy()
    engine.stop()


def test_before_its_start_it_is_not_healthy_and_after_a_stop_it_does_not_start() -> None:
    engine = make_engine()
    assert not engine.healthy()
    engine.wait()
    engine.stop()
    with pytest.raises(EngineStartError, match="stopped before it started"):
        engine.start()


def test_it_says_that_it_cannot_sleep(engine: LlamaCppEngine) -> None:
    assert not engine.can_sleep
    with pytest.raises(EngineSleepError, match="stop it instead"):
        engine.sleep()
    with pytest.raises(EngineSleepError):
        engine.wake()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none.gguf"
    with pytest.raises(EngineStartError, match=rf"{missing}: there is no such model file; check the model's `path`"):
        make_engine(missing).start()


def test_a_file_of_another_kind_is_refused_before_anything_starts(tmp_path: Path) -> None:
    other = tmp_path / "model.safetensors"
    other.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    engine = make_engine(other)
    with pytest.raises(EngineStartError, match="is not a GGUF file"):
        engine.start()
    assert engine.process is None


def test_a_folder_must_hold_one_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(EngineStartError, match=r"expected one \.gguf file in this folder, found none"):
        make_engine(tmp_path).start()
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(EngineStartError, match=r"found a\.gguf, b\.gguf; set `path` to the file"):
        make_engine(tmp_path).start()


@pytest.mark.slow
def test_a_model_in_parts_is_loaded_by_its_first_and_a_part_that_is_gone_is_named(
    engine: LlamaCppEngine, tmp_path: Path
) -> None:
    first, second, third = split(GGUF, tmp_path, parts=3)
    asked = {"prompt": "What is this?", "max_tokens": 12, "temperature": 0}
    in_parts = make_engine(first, api_key=KEY)
    in_parts.start()
    try:
        said = [Call(one, "/v1/completions", asked).json()["choices"][0]["text"] for one in (in_parts, engine)]
    finally:
        in_parts.stop()
    assert said[0] == said[1] != ""
    with pytest.raises(EngineStartError, match=rf"{third}: is one of 3 parts, .* set `path` to {first.name}"):
        make_engine(third).start()
    second.unlink()
    for source in (first, tmp_path):
        with pytest.raises(EngineStartError, match=rf"{first}: of its 3 parts {second.name} cannot be found"):
            make_engine(source).start()


def test_a_broken_file_is_named_with_what_llama_cpp_says_of_it(tmp_path: Path) -> None:
    broken = tmp_path / "half.gguf"
    broken.write_bytes(GGUF.read_bytes()[: GGUF.stat().st_size // 2])
    engine = make_engine(broken)
    with pytest.raises(
        EngineStartError, match=rf"{broken}: llama\.cpp cannot load it \(.*not within the file bounds.*\)"
    ):
        engine.start()
    engine.wait()


def test_an_address_that_is_taken_is_an_error_of_the_start() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address(host="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(EngineStartError, match=rf"cannot listen at 127\.0\.0\.1:{address.port}"):
            make_engine(address=address).start()


def test_a_tiny_model_gets_one_thread_and_others_half_of_the_cpus_up_to_eight(tmp_path: Path) -> None:
    assert threads_for(GGUF, cpus=64) == 1
    large = tmp_path / "large.gguf"
    with large.open("wb") as file:
        file.truncate(400_000_000)
    assert [threads_for(large, cpus=cpus) for cpus in (1, 2, 8, 64)] == [1, 1, 4, 8]
    for part in (first := tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"):
        with part.open("wb") as file:
            file.truncate(0 if part == first else 400_000_000)
    assert threads_for(first, cpus=8) == 4


def test_the_server_process_reads_back_the_options_it_is_given() -> None:
    options = Options(
        model="/m/a b.gguf", alias="a", host="::1", port=1, context=2, parallel=3, threads=4, batch=5, cache_mib=6
    )
    assert parse(options.arguments()) == options


def test_its_metrics_are_read_as_the_service_s(engine: LlamaCppEngine) -> None:
    def counted() -> dict[str, int]:
        told = read(ask(engine.address, KEY) or "", model="demo")
        return {shape.name: numbers[0] // UNIT for shape, series in told.items() for numbers in series.values()}

    before = counted()
    assert set(before) == set(LLAMACPP.values())
    Call(engine, "/v1/chat/completions", {**HELLO, "max_tokens": 7, "ignore_eos": True}).response.read()
    after = counted()
    assert after["engine_generation_tokens_total"] - before["engine_generation_tokens_total"] == 7
    assert after["engine_prompt_tokens_total"] > before["engine_prompt_tokens_total"]
    assert ask(engine.address, "another key") is None
