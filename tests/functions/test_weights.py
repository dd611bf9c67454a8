"""Weights come from a path or from Hugging Face, are verified, and are had from the cache ever after."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from huggingface_hub import constants

from functions import prefetching
from functions.boot import Boot
from functions.engines.base import Address, EngineStartError
from functions.engines.registry import make_engine
from functions.weight_files import explain
from functions.weights import FOLDER_PATTERNS, Hub, Local, WeightsError, choose, fetch, plan, take
from functions.weights_beside import with_beside
from infra.settings import Deploy, Model, Models, Settings
from tests.functions.fake_hub import COMMIT, FakeHub

if TYPE_CHECKING:
    from collections.abc import Iterator

QWEN = "Qwen/Qwen2.5-0.5B-Instruct"
Q4 = b"GGUF" + b"four bits a weight " * 20_000
Q8 = b"GGUF" + b"eight bits a weight " * 20_000
CONFIG = b'{"model_type": "qwen2"}'
TENSORS = b"safetensors" * 1000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    gguf = {"qwen2.5-0.5b-instruct-q4_k_m.gguf": Q4, "qwen2.5-0.5b-instruct-q8_0.gguf": Q8, "README.md": b"readme"}
    folder = {
        "config.json": CONFIG,
        "model.safetensors": TENSORS,
        "tokenizer.json": b"{}",
        "figures/a.png": b"png" * 99,
    }
    with FakeHub({QWEN: folder, f"{QWEN}-GGUF": gguf}) as hub:
        # What HF_ENDPOINT sets when the client is imported.
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub


def qwen(**changes: object) -> Model:
    return Model.model_validate({"id": "qwen", "name": QWEN, **changes})


def test_a_path_is_used_as_it_is(tmp_path: Path) -> None:
    source = plan(qwen(path=str(tmp_path)), "llamacpp")
    assert source == Local(path=tmp_path)
    assert fetch(source) == tmp_path


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"{tmp_path}/none: there is no such model file or folder"):
        fetch(plan(qwen(path=str(tmp_path / "none")), "sglang"))


def test_llama_cpp_takes_one_gguf_file_and_sglang_the_folder() -> None:
    gguf = plan(qwen(quantization="q8", revision="abc"), "llamacpp")
    assert gguf == Hub(repository=f"{QWEN}-GGUF", revision="abc", patterns=("*q8_0*.gguf",), alternatives=True)
    folder = plan(qwen(), "sglang")
    assert folder == Hub(repository=QWEN, revision=None, patterns=FOLDER_PATTERNS, alternatives=False)


def test_a_name_that_is_a_gguf_repository_is_taken_as_it_is() -> None:
    source = plan(qwen(name="someone/Model-GGUF"), "llamacpp")
    assert isinstance(source, Hub)
    assert source.repository == "someone/Model-GGUF"


@pytest.mark.parametrize(
    ("quantization", "chosen"),
    [(None, ["m-Q4_K_M.gguf"]), ("q4", ["m-Q4_K_M.gguf"]), ("q8", ["m-Q8_0.gguf"]), ("bf16", ["m-fp16.gguf"])],
)
def test_the_quantization_chooses_the_file_however_it_is_spelt(quantization: str | None, chosen: list[str]) -> None:
    source = plan(qwen(quantization=quantization), "llamacpp")
    assert isinstance(source, Hub)
    assert choose(["README.md", "m-Q4_0.gguf", "m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-fp16.gguf"], source) == chosen


def test_what_a_model_sees_with_is_not_taken_for_the_model() -> None:
    source = plan(qwen(quantization="bf16"), "llamacpp")
    assert isinstance(source, Hub)
    assert choose(["mmproj-qwen-f16.gguf", "qwen-f16.gguf"], source) == ["qwen-f16.gguf"]
    assert choose(["mmproj-qwen-f16.gguf", "qwen-q8_0.gguf"], source) == []


def test_a_file_in_parts_is_all_of_its_parts() -> None:
    source = plan(qwen(quantization="q8"), "llamacpp")
    assert isinstance(source, Hub)
    parts = [f"q8_0/m-q8_0-0000{part}-of-00003.gguf" for part in (1, 2, 3)]
    assert choose([*reversed(parts), "q8_0/other-q8_0-00001-of-00009.gguf"], source) == parts


def test_the_gguf_file_arrives_whole_and_is_had_from_the_cache_when_the_hub_is_gone(
    hub: FakeHub, tmp_path: Path
) -> None:
    source = plan(qwen(), "llamacpp")
    file = fetch(source, cache=tmp_path)
    assert file.name == "qwen2.5-0.5b-instruct-q4_k_m.gguf"
    assert file.read_bytes() == Q4
    assert not any("q8_0" in request for request in hub.requests)
    hub.failing = True
    asked = len(hub.requests)
    assert fetch(source, cache=tmp_path) == file
    assert len(hub.requests) == asked


def test_the_folder_holds_what_loads_the_model_and_nothing_else(hub: FakeHub, tmp_path: Path) -> None:
    folder = fetch(plan(qwen(), "sglang"), cache=tmp_path)
    assert folder.name == COMMIT
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert (folder / "model.safetensors").read_bytes() == TENSORS


def test_a_repositorys_own_code_comes_along_only_where_it_may_run() -> None:
    names = ["config.json", "configuration_q.py", "model.safetensors", "qwen.tiktoken"]
    trusting, wary = plan(qwen(sglang={"trust_remote_code": True}), "sglang"), plan(qwen(), "sglang")
    assert isinstance(trusting, Hub)
    assert isinstance(wary, Hub)
    assert choose(names, trusting) == names
    assert choose(names, wary) == ["config.json", "model.safetensors"]


def test_each_quantization_has_its_own_place_in_the_cache(hub: FakeHub, tmp_path: Path) -> None:
    assert fetch(plan(qwen(quantization="q4"), "llamacpp"), cache=tmp_path).read_bytes() == Q4
    assert fetch(plan(qwen(quantization="q8"), "llamacpp"), cache=tmp_path).read_bytes() == Q8


def test_a_corrupt_download_is_found_out_removed_and_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    name = "qwen2.5-0.5b-instruct-q4_k_m.gguf"
    hub.sent_instead[name] = Q4[:-1] + b"!"
    source = plan(qwen(), "llamacpp")
    with pytest.raises(WeightsError, match=rf"{QWEN}-GGUF/{name}: the download is corrupt.* it was removed, try again"):
        fetch(source, cache=tmp_path)
    assert not list(tmp_path.rglob("*.gguf"))
    del hub.sent_instead[name]
    assert fetch(source, cache=tmp_path).read_bytes() == Q4


def test_a_corrupt_small_file_is_found_out_too(hub: FakeHub, tmp_path: Path) -> None:
    hub.sent_instead["config.json"] = CONFIG.replace(b"qwen2", b"qwen3")
    with pytest.raises(WeightsError, match=r"config\.json: the download is corrupt"):
        fetch(plan(qwen(), "sglang"), cache=tmp_path)


def test_a_file_that_was_cut_short_in_the_cache_is_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    source = plan(qwen(), "llamacpp")
    file = fetch(source, cache=tmp_path).resolve()
    os.truncate(file, 100)
    assert fetch(source, cache=tmp_path).read_bytes() == Q4


def test_a_download_whose_connection_breaks_goes_on_where_it_was(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 50_000)
    hub.cut_after["qwen2.5-0.5b-instruct-q4_k_m.gguf"] = 150_000
    assert fetch(plan(qwen(), "llamacpp"), cache=tmp_path).read_bytes() == Q4
    assert hub.ranges == ["bytes=150000-"]


def test_what_a_broken_attempt_has_fetched_is_not_fetched_by_the_next_one(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut_after["model.safetensors"] = 5000
    hub.failing_after_a_cut = True
    source = plan(qwen(), "sglang")
    assert isinstance(source, Hub)
    with pytest.raises(WeightsError, match=rf"{QWEN}: "):
        take(source, cache=tmp_path)
    left = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct/blobs/of-a-container-that-was-killed.incomplete"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    hub.failing = False
    taken = take(source, cache=tmp_path)
    assert taken.downloaded == taken.size - len(CONFIG)  # which came before the tensors
    assert (taken.path / "model.safetensors").read_bytes() == TENSORS
    assert not left.exists()


def test_taking_what_is_there_downloads_nothing_and_hashes_all_of_it(hub: FakeHub, tmp_path: Path) -> None:
    source = plan(qwen(), "sglang")
    assert isinstance(source, Hub)
    came: list[int] = []
    first = take(source, cache=tmp_path, after_each=lambda: came.append(1))
    assert (first.commit, first.files, first.downloaded, len(came)) == (COMMIT, 3, first.size, 3)
    again = take(source, cache=tmp_path, after_each=lambda: came.append(1))
    assert (again.downloaded, again.size, len(came)) == (0, first.size, 3)
    tensors = first.path / "model.safetensors"
    tensors.resolve().write_bytes(TENSORS.replace(b"s", b"z"))  # as long as it was: only its hash tells
    assert take(source, cache=tmp_path).downloaded == len(TENSORS)
    assert tensors.read_bytes() == TENSORS


def test_a_token_opens_a_gated_model_and_without_one_the_error_says_so(hub: FakeHub, tmp_path: Path) -> None:
    hub.tokens[QWEN] = "hf_secret"
    with pytest.raises(
        WeightsError, match=rf"{QWEN}: is gated; accept its terms on Hugging Face and set HF_TOKEN"
    ) as info:
        fetch(plan(qwen(), "sglang"), cache=tmp_path, token="hf_wrong")
    assert "hf_wrong" not in info.value.message
    assert fetch(plan(qwen(), "sglang"), cache=tmp_path, token="hf_secret").is_dir()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Qwen/Misspelt"}, "Qwen/Misspelt: is not on Hugging Face, or private; check the model's `name`"),
        ({"revision": "v9"}, f"{QWEN}: has no such revision"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    hub: FakeHub, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as info:
        fetch(plan(qwen(**changes), "sglang"), cache=tmp_path)
    assert "\n" not in info.value.message


def test_a_repository_without_fitting_weights_says_what_was_looked_for(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"-GGUF: has no weights that fit \*bf16\*\.gguf, .*; set another"):
        fetch(plan(qwen(quantization="bf16"), "llamacpp"), cache=tmp_path)


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=rf"{QWEN}: cannot be downloaded \(.*\); check the network") as info:
        fetch(plan(qwen(), "sglang"), cache=tmp_path)
    assert "\n" not in info.value.message


def test_a_cache_that_cannot_be_written_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(
        WeightsError, match=rf"{QWEN}: cannot be stored at {tmp_path}/file.*; free space, or set HF_HOME"
    ):
        fetch(plan(qwen(), "sglang"), cache=tmp_path / "file" / "cache")


def test_a_full_disk_says_what_to_do() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert explain(QWEN, full) == f"{QWEN}: the disk is full; free space, or set HF_HOME to a folder on a larger one"


def test_a_disk_that_fills_up_is_told_and_the_next_attempt_with_room_succeeds(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = plan(qwen(), "llamacpp")
    assert isinstance(source, Hub)
    with monkeypatch.context() as patched:
        patched.setattr("huggingface_hub.file_download.http_get", full)
        with pytest.raises(WeightsError, match=f"{QWEN}-GGUF: the disk is full; free space"):
            take(source, cache=tmp_path)
    assert not list(tmp_path.rglob("*.incomplete"))
    assert take(source, cache=tmp_path).path.read_bytes() == Q4


def test_a_disk_that_is_full_at_the_last_byte_leaves_no_half_of_a_record(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(WeightsError, match=f"{QWEN}-GGUF: the disk is full"):
            fetch(plan(qwen(), "llamacpp"), cache=tmp_path)
    assert not list((tmp_path / "verified").iterdir())


def test_weights_that_sglang_could_not_serve_so_are_told_by_a_prefetch_and_by_the_start(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub.files[QWEN]["config.json"] = b'{"model_type": "qwen2", "max_position_embeddings": 2048}'
    model = qwen(context_length=4096)
    given = Settings(models=Models(available_models=(model,)), deploy=Deploy(target="modal"))
    monkeypatch.setattr(prefetching, "load_settings", lambda: given)
    told = prefetching.work("qwen", lambda: None)
    assert told["failed"]
    assert told["lines"][-1].startswith("cannot be served so: context_length: 4096 is above the model's own, 2048")
    address = Address(host="127.0.0.1", port=9)
    with pytest.raises(EngineStartError, match="context_length: 4096 is above the model's own, 2048"):
        make_engine(model, given, address=address, api_key=None, files=tmp_path)
    monkeypatch.setenv("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "1")
    assert make_engine(model, given, address=address, api_key=None, files=tmp_path).kind == "sglang"
    assert not prefetching.work("qwen", lambda: None)["failed"]


def test_a_draft_that_is_still_to_be_downloaded_is_in_the_phase_of_downloads(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    model = qwen(sglang={"speculative": {"algorithm": "EAGLE3", "draft_model": QWEN}})
    for phases in ({"download", "import", "ready"}, {"import", "ready"}):  # the second time it is there
        boot = Boot()
        assert with_beside(model, "/weights", token=None, endpoint=None, boot=boot).draft is not None
        boot.begins("import")
        assert set(boot.is_ready().seconds) == phases


def test_the_command_fetches_what_is_configured_and_shows_its_progress(hub: FakeHub, tmp_path: Path) -> None:
    configuration = tmp_path / "config.toml"
    configuration.write_text(f'[[models.available_models]]\nid = "qwen"\nname = "{QWEN}"\n')
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "DEPLOY__TARGET": "local"}
    ended = subprocess.run(
        [sys.executable, "-m", "functions.weights", "qwen"],
        env={**environment, "PYTHONPATH": str(Path.cwd())}, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert Path(ended.stdout.removeprefix("qwen: ").strip()).read_bytes() == Q4
    assert "q4_k_m.gguf" in ended.stderr
    assert "%" in ended.stderr
