"""Configurations of SGLang from all over what can be set: each choice at least once, and in pairs with others."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from infra.settings import Settings
from infra.sglang import Dtype, LoraBackend, LoraEviction, WritePolicy
from infra.sglang_choices import (
    ATTENTION_BACKENDS,
    CPU_ONLY,
    KV_CACHE_DTYPES,
    QUANTIZATIONS,
    REASONING_PARSERS,
    TOOL_CALL_PARSERS,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.models import Model

SEED = 20261123
DRAWN = 600
ADAPTERS = {"fr": {"name": "org/fr"}, "de": {"name": "org/de", "revision": "main"}}
NUMBERS = {"num_steps": 3, "eagle_topk": 1, "num_draft_tokens": 4}
TREE = {"num_steps": 5, "eagle_topk": 4, "num_draft_tokens": 8}

OF_MODEL: dict[str, list[Any]] = {
    "gpu": ["L4", "T4", "A10:2", "A100-80GB", "L40S:4", "H100", "H100:8", "H200:2", "B200:4", "RTX-PRO-6000"],
    "device": ["cuda", "cpu"],
    "quantization": [None, "q4", "q8", "bf16"],
    "context_length": [2048, 131072],
    "embedding": [False, True],
    "snapshot": [False, True],
}
OF_SGLANG: dict[str, list[Any]] = {
    "tensor_parallel": [None, 2, 4, 8],
    "data_parallel": [1, 2, 4],
    "attention_data_parallel": [1, 2, 8],
    "expert_parallel": [1, 2, 4, 8],
    "quantization": [None, *QUANTIZATIONS],
    "dtype": [None, *get_args(Dtype)],
    "kv_cache_dtype": [None, *KV_CACHE_DTYPES],
    "attention_backend": [None, *ATTENTION_BACKENDS],
    "tool_call_parser": [None, *sorted(TOOL_CALL_PARSERS)],
    "reasoning_parser": [None, *sorted(REASONING_PARSERS)],
    "memory_fraction": [None, 0.5, 0.88],
    "max_running_requests": [None, 4],
    "max_total_tokens": [None, 100_000],
    "chunked_prefill_size": [None, -1, 4096],
    "prefix_cache": [True, False],
    "cache_report": [True, False],
    "metrics": [True, False],
    "trust_remote_code": [False, True],
    "hierarchical_cache": [
        {}, {"enabled": True}, {"enabled": True, "ratio": 2.5}, {"enabled": True, "size_gb": 16},
        *({"enabled": True, "write_policy": policy} for policy in get_args(WritePolicy)),
    ],
    "lora": [
        {}, {"adapters": ADAPTERS}, {"adapters": ADAPTERS, "max_per_batch": 2, "max_loaded": 2},
        *({"adapters": ADAPTERS, "backend": backend} for backend in get_args(LoraBackend)),
        *({"adapters": ADAPTERS, "eviction": policy} for policy in get_args(LoraEviction)),
    ],
    "speculative": [
        {}, *({"algorithm": name, "draft_model": "org/draft"} for name in ("EAGLE", "EAGLE3", "STANDALONE")),
        {"algorithm": "EAGLE3", "draft_model": "org/draft", "draft_quantization": "fp8", **NUMBERS},
        {"algorithm": "EAGLE", "draft_model": "org/draft", **TREE},
        {"algorithm": "NEXTN"}, {"algorithm": "NEXTN", **NUMBERS}, {"algorithm": "NGRAM"},
        {"algorithm": "NGRAM", "num_draft_tokens": 8, "ngram_breadth": 4, "ngram_depth": 12},
    ],
    "flags": [
        {}, {"page-size": 16, "enable-mixed-chunk": True}, {"schedule-policy": "lpm", "lora-strict-loading": False},
        {"cuda-graph-bs-decode": [1, 2, 4], "json-model-override-args": '{"rope_scaling": null}'},
    ],
}  # fmt: skip


def configurations() -> Iterator[Model]:
    """Every value by itself, then values drawn together: all that is not refused. The same each time."""
    axes = [(of, key, value) for of, table in (("", OF_MODEL), ("sglang", OF_SGLANG)) for key in table
            for value in table[key]]  # fmt: skip
    for axis in axes:
        yield from made([axis])
    draw = random.Random(SEED)
    for _ in range(DRAWN):
        yield from made(draw.sample(axes, draw.randint(2, 6)))


def made(axes: list[tuple[str, str, Any]]) -> Iterator[Model]:
    """The model with these values, unless it is refused. What goes with GPUs in numbers gets as many as it needs."""
    model: dict[str, Any] = {"id": "m", "name": "org/m", "engine": "sglang"}
    told: dict[str, Any] = {}
    for of, key, value in axes:
        (told if of else model)[key] = value
    if told.get("quantization") in CPU_ONLY or told.get("attention_backend") == "intel_amx":
        model["device"] = "cpu"
    if "gpu" not in model:
        sizes = [told.get(key) or 1 for key in ("tensor_parallel", "attention_data_parallel", "expert_parallel")]
        model["gpu"] = f"{gpu_for(told)}:{min(8, max(sizes) * told.get('data_parallel', 1))}"
    try:
        settings = Settings.model_validate({"models": {"available_models": [{**model, "sglang": told}]}})
    except ValidationError:
        return
    yield settings.models.available_models[0]


def gpu_for(told: dict[str, Any]) -> str:
    """A GPU that has what is asked for."""
    newest = told.get("kv_cache_dtype") == "mxfp8" or told.get("attention_backend") == "trtllm_mla"
    return "B200" if newest or QUANTIZATIONS.get(told.get("quantization") or "", 0) > 90 else "H100"


def values_of(model: Model) -> set[tuple[str, str]]:
    """The values that a configuration has, as the axes name them."""
    dumped = model.sglang.model_dump()
    flat = {("sglang." + key, str(value)) for key, value in dumped.items() if not isinstance(value, dict)}
    return flat | {(key, str(getattr(model, key))) for key in OF_MODEL}
