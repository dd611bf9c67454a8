"""What a checkpoint's own `config.json` says against how SGLang is to serve it, told before SGLang is started.

Each objection is an error of SGLang 0.5.23's own (`configs/model_config.py`, the attention of `models/`), which it
finds once its modules are loaded and its processes started. What the file does not say, or is not known to stand for,
is no objection: SGLang is the judge. Pure, but for `read`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from infra import gpus
from infra.sglang import tensor_parallel
from infra.sglang_checks import method_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from infra.models import Device, Model

LONGER_ALLOWED: Final = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"
"""The variable by which SGLang takes a context that is longer than the model's own."""
CONTEXT_KEYS: Final = (
    "max_sequence_length",
    "seq_length",
    "max_seq_len",
    "model_max_length",
    "max_position_embeddings",
)
"""In SGLang's order: the first that is there counts."""
TEXT_PARTS: Final = ("thinker_config", "llm_config", "language_config", "text_config")
"""Where a model of several parts has its language model, in SGLang's order."""
EXPERT_KEYS: Final = ("num_experts", "n_routed_experts", "num_local_experts")
SHARES_KEYS_AND_VALUES: Final = frozenset(
    ["llama", "mistral", "mixtral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "phi3", "phimoe", "gemma", "gemma2",
     "gemma3_text", "gpt_oss", "glm4", "glm4_moe", "granite", "exaone4", "olmoe", "starcoder2", "internlm2"]
)  # fmt: skip
"""Kinds of models whose heads of keys and values are spread over the GPUs, or copied, evenly or not at all."""
NO_FP8: Final = frozenset({"awq", "gptq", "bitsandbytes", "compressed-tensors"})
"""What a checkpoint may have been quantized by, so that it cannot be quantized to fp8 when it is loaded."""
OVERRIDES: Final = "json-model-override-args"
"""The flag that may say anything else than the file."""
ELSEWHERE: Final = frozenset(
    ["load-format", "cpu-offload-gb", "offload-group-size", "ple-offload-embedding", "kt-weight-path", "dwdp-size",
     "encoder-only", "language-only", "language-model-only", "quantization-param-path", "model-loader-extra-config"]
)  # fmt: skip
"""Flags with which the size of the files says nothing of the GPUs' memory."""
ALONG_THE_PROMPT: Final = frozenset(["attn-cp-size", "attention-context-parallel-size"])
"""Flags with which attention's GPUs share prompts, not heads alone."""
HALVES: Final = frozenset(["float16", "half", "bfloat16"])
"""Types of weights that SGLang loads as they are; `float32`, or none, it loads as one of these."""
GIB: Final = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder of weights, as far as it is looked into."""

    config: Mapping[str, Any]
    """Its `config.json`."""
    size: int | None = None
    """Bytes of its weights, where that is certain."""

    @property
    def text(self) -> Mapping[str, Any]:
        """The part of the configuration that is the language model's."""
        part: Mapping[str, Any] = next(
            (self.config[name] for name in TEXT_PARTS if isinstance(self.config.get(name), dict)), self.config
        )
        inner = part.get("text_config")
        return inner if isinstance(inner, dict) else part

    def number(self, *keys: str) -> int | None:
        """The first of these that is there; None also where it is no positive number."""
        found = next((self.text[key] for key in keys if self.text.get(key) is not None), None)
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None

    @property
    def dtype(self) -> object:
        """Of the weights, as far as it is told."""
        told = (part.get(key) for part in (self.text, self.config) for key in ("dtype", "torch_dtype"))
        return next((dtype for dtype in told if dtype is not None), None)

    @property
    def context(self) -> int | None:
        """Tokens that the model was made for."""
        known = self.number(*CONTEXT_KEYS)
        scaling = self.text.get("rope_scaling") or self.text.get("rope_parameters") or {}
        if known is None or not isinstance(scaling, dict):
            return None
        if "original_max_position_embeddings" in scaling or scaling.get("rope_type") == "llama3":
            return known
        factor = scaling.get("factor", 1)
        return int(factor * known) if isinstance(factor, int | float) else None


def read(folder: Path) -> Checkpoint | None:
    """What lies there; None where there is no `config.json` that could be read."""
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return Checkpoint(config=config, size=_size(folder)) if isinstance(config, dict) else None


def _size(folder: Path) -> int | None:
    """Of the weights that are loaded: a repository may hold them twice, in another form."""
    try:
        told = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))["metadata"]["total_size"]
        return int(told)
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        pass
    try:
        return (folder / "model.safetensors").stat().st_size
    except OSError:
        return None


def objections(
    model: Model,
    checkpoint: Checkpoint,
    *,
    device: Device,
    longer: bool = False,
    draft: Checkpoint | None = None,
    largest_gib: float | None = None,
) -> Iterator[str]:
    """What stands against serving `model` on `device` with this checkpoint, and `draft` beside it. `longer`: SGLang is
    told to take a longer context than the model's (`LONGER_ALLOWED`). `largest_gib`: memory of the largest GPU that is
    there, infinite where nobody knows; None: of what the model's `gpu` names."""
    if OVERRIDES in model.sglang.flags:
        return
    yield from _of_one(model, checkpoint, device=device, longer=longer, whose="the model's")
    if draft is not None:
        yield from _of_one(model, draft, device=device, longer=longer, whose="the drafting model's")
    yield from _experts(model, checkpoint, device=device)
    yield from _quantization(model, checkpoint)
    yield from _memory(model, checkpoint, device=device, largest_gib=largest_gib)


def _of_one(model: Model, checkpoint: Checkpoint, *, device: Device, longer: bool, whose: str) -> Iterator[str]:
    context = checkpoint.context
    if context is not None and model.context_length > context and not longer:
        yield (
            f"context_length: {model.context_length} is above {whose} own, {context}; expected at most that (or "
            f"{LONGER_ALLOWED}=1 in the engine's environment)"
        )
    if not ALONG_THE_PROMPT.isdisjoint(model.sglang.flags):
        return
    tensor = max(1, _over(model, device) // model.sglang.attention_data_parallel)
    heads, shared = checkpoint.number("num_attention_heads"), checkpoint.number("num_key_value_heads")
    if heads is not None and heads % tensor:
        fitting = ", ".join(str(size) for size in range(1, tensor) if heads % size == 0)
        yield (
            f"sglang.tensor_parallel: {whose} {heads} attention heads cannot be spread over {tensor} GPUs; expected "
            f"one of {fitting}"
        )
    elif shared is not None and checkpoint.text.get("model_type") in SHARES_KEYS_AND_VALUES and _uneven(shared, tensor):
        yield (
            f"sglang.tensor_parallel: {whose} {shared} heads of keys and values can be neither spread over {tensor} "
            "GPUs nor copied to them evenly"
        )


def _uneven(shared: int, tensor: int) -> bool:
    return bool(shared % tensor if shared >= tensor else tensor % shared)


def _experts(model: Model, checkpoint: Checkpoint, *, device: Device) -> Iterator[str]:
    experts, over = checkpoint.number(*EXPERT_KEYS), model.sglang.expert_parallel
    redundant = model.sglang.flags.get("ep-num-redundant-experts", 0)
    if device == "cuda" and experts is not None and not redundant and experts % over:
        yield f"sglang.expert_parallel: {experts} experts cannot be spread over {over} GPUs"


def _quantization(model: Model, checkpoint: Checkpoint) -> Iterator[str]:
    told = checkpoint.config.get("quantization_config")
    made = str(told.get("quant_method", "")).lower() if isinstance(told, dict) else ""
    if method_of(model) == "fp8" and made in NO_FP8:
        key = "sglang.quantization" if model.sglang.quantization else "quantization"
        yield f"{key}: the checkpoint was quantized by {made}, and cannot be quantized to fp8; expected it to be absent"


def _memory(model: Model, checkpoint: Checkpoint, *, device: Device, largest_gib: float | None) -> Iterator[str]:
    """Whether the weights alone are more than the GPUs hold: the least that can be said against it."""
    if device != "cuda" or checkpoint.size is None or not ELSEWHERE.isdisjoint(model.sglang.flags):
        return
    quantized_now = method_of(model) is not None and "quantization_config" not in checkpoint.config
    halved = checkpoint.dtype not in HALVES and model.sglang.dtype != "float32"
    name, _ = gpus.split(model.gpu)
    least = checkpoint.size / (4 if quantized_now else 1) / (2 if halved else 1) / _over(model, device)
    rented = gpus.GPUS[name].memory_gb
    has = f"{name} has {rented}" if largest_gib is None else f"the largest one here has {largest_gib:.1f}"
    if least > (rented if largest_gib is None else largest_gib) * GIB:
        yield (
            f"gpu: the weights are {checkpoint.size / GIB:.1f} GiB, {least / GIB:.1f} on each GPU, and {has}; expected "
            "more of them, larger ones, or a quantization"
        )


def _over(model: Model, device: Device) -> int:
    """GPUs over which each layer is spread."""
    return tensor_parallel(model.sglang, gpus.split(model.gpu)[1]) if device == "cuda" else 1
