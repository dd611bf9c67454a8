"""What models' own `config.json` say against how SGLang is to serve them. The files are those of the repositories that
are named, as far as SGLang looks into them here."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.checkpoint import Checkpoint, objections, read
from infra.configuration import ConfigurationError
from infra.model_files import refuse_unfit_files
from infra.settings import Deploy, Model, Models, Settings
from tests.model_examples import examples

if TYPE_CHECKING:
    from pathlib import Path

    from infra.settings import Device

GIB = 1 << 30
QWEN_05B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_attention_heads": 14, "num_key_value_heads": 2,
    "num_hidden_layers": 24, "hidden_size": 896, "max_position_embeddings": 32768, "sliding_window": 32768,
    "use_sliding_window": False, "rope_theta": 1000000.0, "torch_dtype": "bfloat16",
}  # fmt: skip
LLAMA_1B = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "max_position_embeddings": 131072, "rope_scaling": {
        "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3"},
}  # fmt: skip
PHI_35_MINI = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "num_attention_heads": 32, "num_key_value_heads": 32,
    "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "sliding_window": 262144,
    "rope_scaling": {"long_factor": [1.0], "short_factor": [1.0], "type": "longrope"},
}  # fmt: skip
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 128, "max_position_embeddings": 40960, "rope_scaling": None, "torch_dtype": "bfloat16",
}  # fmt: skip
QWEN3_30B = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "num_attention_heads": 32,
    "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8, "max_position_embeddings": 40960,
    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]},
}  # fmt: skip
LINEAR = {**LLAMA_1B, "max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}
SEES = {"architectures": ["Qwen3VLForConditionalGeneration"], "text_config": QWEN3_8B, "vision_config": {}}
SINGLE = {**QWEN3_8B, "torch_dtype": "float32"}
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "torch_dtype": "bfloat16",
    "text_config": {"model_type": "gemma3_text", "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128,
                    "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
    "vision_config": {"model_type": "siglip_vision_model", "num_attention_heads": 16},
}  # fmt: skip
LLAMA4 = {
    "model_type": "llama4", "vision_config": {"model_type": "llama4_vision_model"}, "text_config": {
        "model_type": "llama4_text", "num_attention_heads": 40, "num_key_value_heads": 8, "num_local_experts": 16,
        "max_position_embeddings": 10485760, "rope_scaling": {
            "factor": 16.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}},
}  # fmt: skip
AWQ = {**QWEN_05B, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
DEEPSEEK = {
    "model_type": "deepseek_v3", "num_attention_heads": 128, "num_key_value_heads": 128, "kv_lora_rank": 512,
    "n_routed_experts": 256, "max_position_embeddings": 163840,
    "rope_scaling": {"factor": 40, "original_max_position_embeddings": 4096, "type": "yarn"},
}  # fmt: skip


def told(
    config: dict[str, Any], *, size: int | None = None, device: Device = "cuda", longer: bool = False,
    draft: dict[str, Any] | None = None, **changes: object,
) -> list[str]:  # fmt: skip
    model = Model.model_validate({"id": "m", "name": "org/m", "context_length": 4096, **changes})
    beside = None if draft is None else Checkpoint(config=draft)
    found = Checkpoint(config=config, size=size)
    return list(objections(model, found, device=device, longer=longer, draft=beside))


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        (QWEN_05B, {"gpu": "L4:4"}, "the model's 14 attention heads cannot be spread over 4 GPUs; expected one of 1,"),
        (QWEN_05B, {"context_length": 32769}, "context_length: 32769 is above the model's own, 32768"),
        (LLAMA_1B, {"context_length": 200_000}, "above the model's own, 131072"),
        (LINEAR, {"context_length": 16385}, "above the model's own, 16384"),
        (PHI_35_MINI, {"context_length": 131073}, "above the model's own, 131072"),
        (SEES, {"context_length": 40961}, "above the model's own, 40960"),
        ({**QWEN_05B, "num_attention_heads": 12}, {"gpu": "A100:3"}, "2 heads of keys and values can be neither"),
        (QWEN3_30B, {"gpu": "H100:4", "sglang": {"expert_parallel": 3}}, "128 experts cannot be spread over 3 GPUs"),
        (AWQ, {"quantization": "q8"}, "quantization: the checkpoint was quantized by awq, and cannot be"),
        (QWEN3_8B, {"size": 16 * GIB, "gpu": "T4", "draft": {**LLAMA_1B, "max_position_embeddings": 2048}},
         "context_length: 4096 is above the drafting model's own, 2048"),
        (QWEN3_8B, {"size": 61 * GIB, "gpu": "L4:2"}, "the weights are 61.0 GiB, 30.5 on each GPU, and L4 has 24"),
        (SINGLE, {"size": 61 * GIB, "gpu": "L4"}, "the weights are 61.0 GiB, 30.5 on each GPU, and L4 has 24"),
        (SINGLE, {"size": 30 * GIB, "gpu": "L4", "sglang": {"dtype": "float32"}}, "30.0 on each GPU, and L4 has 24"),
    ],
)  # fmt: skip
def test_what_sglang_could_not_serve_is_told_with_the_key_at_fault(
    config: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    (objection,) = told(config, **changes)
    assert said in objection


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (QWEN_05B, {"context_length": 32768, "gpu": "L4:2"}),
        (QWEN_05B, {"gpu": "L4:4", "sglang": {"data_parallel": 2}}),
        (QWEN_05B, {"gpu": "L4:4", "device": "cpu"}),
        (LLAMA_1B, {"context_length": 131072, "gpu": "H100:8"}),
        (LLAMA_1B, {"context_length": 200_000, "longer": True}),
        (LLAMA_1B, {"context_length": 200_000, "sglang": {"flags": {"json-model-override-args": "{}"}}}),
        (LINEAR, {"context_length": 16384}),
        (SEES, {"context_length": 40960}),
        (QWEN3_30B, {"size": 31 * GIB, "gpu": "H100", "quantization": "q8"}),
        (QWEN3_30B, {"gpu": "H100:8"}),
        (DEEPSEEK, {"gpu": "H200:8", "context_length": 163840, "sglang": {"expert_parallel": 8}}),
        (QWEN3_8B, {"size": 30 * GIB, "gpu": "L4", "quantization": "q8"}),
        (QWEN3_8B, {"size": 61 * GIB, "gpu": "L4", "sglang": {"flags": {"cpu-offload-gb": 50}}}),
        (SINGLE, {"size": 30 * GIB, "gpu": "L4"}),
        ({**QWEN3_8B, "torch_dtype": None}, {"size": 30 * GIB, "gpu": "L4"}),
        (QWEN3_8B, {"size": 61 * GIB, "gpu": "L4", "sglang": {"flags": {"offload-group-size": 8}}}),
        (QWEN3_8B, {"size": 61 * GIB, "gpu": "L4", "sglang": {"flags": {"json-model-override-args": "{}"}}}),
        (QWEN_05B, {"gpu": "L4:4", "sglang": {"flags": {"attn-cp-size": 2}}}),
        (GEMMA3, {"gpu": "H100:8", "context_length": 131072, "size": 51 * GIB}),
        (LLAMA4, {"gpu": "H100:8", "context_length": 10**6, "sglang": {"expert_parallel": 8}}),
        (DEEPSEEK, {"gpu": "H200:8", "sglang": {"attention_data_parallel": 8, "expert_parallel": 8}}),
        ({"model_type": "mamba"}, {"gpu": "L4:4", "context_length": 10**6}),
        ({"max_position_embeddings": "long", "rope_scaling": [], "quantization_config": "x"}, {}),
    ],
)
def test_what_it_can_or_might_is_not(config: dict[str, Any], changes: dict[str, Any]) -> None:
    device = changes.get("device", "cuda")
    assert told(config, **{**changes, "device": device}) == []


def test_our_own_examples_fit_the_models_that_they_are_of() -> None:
    of = {"qwen2.5-0.5b": QWEN_05B, "llama-3.2-1b": LLAMA_1B, "phi-3.5-mini": PHI_35_MINI, "qwen3-8b": QWEN3_8B,
          "qwen3-30b-a3b": QWEN3_30B}  # fmt: skip
    seen = 0
    for model in examples():
        config = next(config for name, config in of.items() if name in model.name.lower())
        assert list(objections(model, Checkpoint(config=config), device="cuda")) == []
        seen += 1
    assert seen == len(of)


def test_weights_that_lie_there_twice_are_counted_once(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    (tmp_path / "config.json").write_text("[]")
    assert read(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps(QWEN_05B))
    (tmp_path / "consolidated.safetensors").write_bytes(bytes(7))
    assert (found := read(tmp_path)) is not None and found.size is None
    (tmp_path / "model.safetensors").write_bytes(bytes(7))
    assert (found := read(tmp_path)) is not None and found.size == 7
    (tmp_path / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 70}}')
    assert (found := read(tmp_path)) is not None and found.size == 70


def test_weights_on_the_machine_that_deploys_are_looked_at_there(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN_05B))
    model = Model(id="m", name="m", path=str(tmp_path), context_length=65536)
    settings = Settings(models=Models(available_models=(model,)), deploy=Deploy(target="modal"))
    with pytest.raises(ConfigurationError, match=r"model 'm': context_length: 65536 is above the model's own, 32768"):
        refuse_unfit_files(settings)
    refuse_unfit_files(settings.model_copy(update={"deploy": Deploy(target="local")}))
