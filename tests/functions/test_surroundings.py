"""What engines are handed of the environment: what they run with, and none of the service's secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from functions.engines.base import Address
from functions.engines.registry import make_engine
from functions.engines.scripted import ScriptedEngine
from functions.engines.surroundings import handed_on
from infra.settings import Deploy, Model, Models, Settings
from tests.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

SECRETS: Final = (
    "AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN MODAL_TOKEN_SECRET MODAL_IDENTITY_TOKEN HF_TOKEN "
    "HUGGING_FACE_HUB_TOKEN ENGINE_API_KEY PROXY_TOKEN_SECRET API_KEY SECURITY__API_KEYS LLM_KEYS OPENAI_API_KEY "
    "OTEL_EXPORTER_OTLP_HEADERS SGLANG_SOMETHING_SECRET SGLANG_API_KEY HF_TOKEN_PATH DATABASE_URL"
)
NEEDED: Final = (
    "PATH HOME TMPDIR LANG LC_ALL TZ LD_LIBRARY_PATH PYTHONPATH CUDA_HOME CUDA_VISIBLE_DEVICES NVIDIA_VISIBLE_DEVICES "
    "NCCL_DEBUG TORCHINDUCTOR_COMPILE_THREADS PYTORCH_CUDA_ALLOC_CONF TRITON_CACHE_DIR SGLANG_CACHE_DIR HF_HOME "
    "HF_HUB_OFFLINE TOKENIZERS_PARALLELISM OMP_NUM_THREADS HTTPS_PROXY no_proxy SSL_CERT_FILE XDG_CACHE_HOME "
    "SGLANG_INIT_NEW_TOKEN_RATIO CUBLAS_WORKSPACE_CONFIG NVCC_APPEND_FLAGS MOONCAKE_MASTER DO_NOT_TRACK"
)


@pytest.mark.parametrize("name", SECRETS.split(" "))
def test_no_secret_is_handed_on(name: str) -> None:
    assert handed_on({name: "x"}) == {}


@pytest.mark.parametrize("name", NEEDED.split(" "))
def test_what_engines_run_with_is_handed_on(name: str) -> None:
    assert handed_on({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("kind", ["sglang", "llamacpp", "scripted"])
def test_every_engine_is_given_that_and_what_the_configuration_names(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "CK_MOE", "NCCL_DEBUG"):
        monkeypatch.setenv(name, "x")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    model = Model(id="m", name="m", path=str(tmp_path), local_engine=kind)
    models = Models(available_models=(model,), engine_environment=("CK_MOE", "NOT_THERE"))
    settings = Settings(models=models, deploy=Deploy(target="local"))
    address = Address(host="127.0.0.1", port=free_port())
    engine: Any = make_engine(model, settings, address=address, api_key="ek-1", files=tmp_path)
    if kind == "llamacpp":
        process = engine._make_process(tmp_path / "model.gguf")
    else:
        process = engine._process if isinstance(engine, ScriptedEngine) else engine.process
    assert {name: process.environment.get(name) for name in ("AWS_SECRET_ACCESS_KEY", "CK_MOE", "NCCL_DEBUG")} == {
        "AWS_SECRET_ACCESS_KEY": None, "CK_MOE": "x", "NCCL_DEBUG": "x",
    }  # fmt: skip
