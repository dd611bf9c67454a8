"""SGLang's command line, made of a model's settings. Pure.

Flags are those of SGLang 0.5.23 (`python -m sglang.launch_server --help`); its own parser accepts every line that
settings without objections (`infra.sglang_checks`) come to, which tests hold.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infra import gpus
from infra.sglang import tensor_parallel
from infra.sglang_checks import method_of
from infra.sglang_flags import PAIRS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from functions.engines.base import Address
    from infra.settings import Device, Model
    from infra.sglang import FlagValue, HierarchicalCache, Lora, SGLang, Speculative


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where the weights lie on this machine, each a folder of the revision that is configured."""

    model: str
    draft: str | None = None
    """Of the drafting model, where one is configured."""
    adapters: Mapping[str, str] = field(default_factory=dict)
    """Of each LoRA adapter, by the name that callers say."""


def command_line(
    model: Model, *, device: Device, sources: Sources, address: Address, max_requests: int, further_file: str | None
) -> list[str]:
    """SGLang's command line for `model`, whose engine gets `max_requests` requests at once at most. `further_file`: a
    YAML file with further arguments, which whoever lists processes does not see.

    Constrained JSON is compact: where any white space is allowed, a small model may write nothing else until its limit.
    On a CPU its cache would take most of the machine's memory, and its scheduler half of a CPU while there is nothing
    to do.
    """
    sglang = model.sglang
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", sources.model]
    command += ["--served-model-name", model.id, "--host", address.host, "--port", str(address.port)]
    command += ["--device", device, "--context-length", str(model.context_length)]
    running = sglang.max_running_requests or max_requests
    command += ["--max-running-requests", str(running)]
    command += ["--constrained-json-disable-any-whitespace"]
    command += _switch("--enable-cache-report", on=sglang.cache_report)
    command += _switch("--enable-metrics", on=sglang.metrics)
    command += _switch("--is-embedding", on=model.embedding)
    if device == "cuda":
        command += _parallel(sglang, gpus.split(model.gpu)[1])
        command += _value("--max-total-tokens", sglang.max_total_tokens)
    else:
        command += ["--sleep-on-idle"]
        command += _value("--max-total-tokens", sglang.max_total_tokens or model.context_length * running)
    command += _numbers(model)
    command += _switch("--disable-radix-cache", on=not sglang.prefix_cache)
    command += _switch("--trust-remote-code", on=sglang.trust_remote_code)
    command += _cache(sglang.hierarchical_cache)
    command += _lora(sglang.lora, sources.adapters)
    command += _speculative(sglang.speculative, sources.draft)
    command += _value("--config", further_file)
    return [*command, *further(sglang.flags)]


def further(flags: Mapping[str, FlagValue]) -> list[str]:
    """The flags that are set by name. A value that begins with a dash is still a value, so each is one word."""
    return [word for name, value in flags.items() for word in _words(name, value)]


def _words(name: str, value: FlagValue) -> Iterator[str]:
    if value is True:
        yield f"--{name}"
    elif value is False:
        if name in PAIRS:
            yield f"--no-{name}"
    elif isinstance(value, tuple):
        yield from (f"--{name}", *map(str, value))
    else:
        yield f"--{name}={value}"


def _switch(flag: str, *, on: bool) -> list[str]:
    return [flag] if on else []


def _value(flag: str, value: str | float | None) -> list[str]:
    return [] if value is None else [flag, str(value)]


def _parallel(sglang: SGLang, count: int) -> list[str]:
    flags = ["--tensor-parallel-size", str(tensor_parallel(sglang, count))]
    for flag, size in (
        ("--data-parallel-size", sglang.data_parallel),
        ("--attn-dp-size", sglang.attention_data_parallel),
        ("--ep-size", sglang.expert_parallel),
    ):
        flags += _value(flag, size if size > 1 else None)
    return flags


def _numbers(model: Model) -> list[str]:
    """How numbers are kept and computed, and how the memory for them is shared out."""
    sglang = model.sglang
    return [
        *_value("--quantization", method_of(model)),
        *_value("--dtype", sglang.dtype or ("bfloat16" if model.quantization == "bf16" else None)),
        *_value("--kv-cache-dtype", sglang.kv_cache_dtype),
        *_value("--attention-backend", sglang.attention_backend),
        *_value("--mem-fraction-static", sglang.memory_fraction),
        *_value("--chunked-prefill-size", sglang.chunked_prefill_size),
        *_value("--tool-call-parser", sglang.tool_call_parser),
        *_value("--reasoning-parser", sglang.reasoning_parser),
    ]


def _cache(cache: HierarchicalCache) -> list[str]:
    if not cache.enabled:
        return []
    return [
        "--enable-hierarchical-cache",
        *_value("--hicache-ratio", cache.ratio),
        *_value("--hicache-size", cache.size_gb),
        *_value("--hicache-write-policy", cache.write_policy),
    ]


def _lora(lora: Lora, folders: Mapping[str, str]) -> list[str]:
    if not lora.adapters:
        return []
    return [
        "--enable-lora",
        "--lora-paths",
        *(f"{name}={folders[name]}" for name in lora.adapters),
        *_value("--max-loras-per-batch", lora.max_per_batch),
        *_value("--max-loaded-loras", lora.max_loaded),
        *_value("--lora-backend", lora.backend),
        *_value("--lora-eviction-policy", lora.eviction),
    ]


def _speculative(told: Speculative, draft: str | None) -> list[str]:
    if told.algorithm is None:
        return []
    return [
        "--speculative-algorithm",
        told.algorithm,
        *_value("--speculative-draft-model-path", draft),
        *_value("--speculative-draft-model-quantization", told.draft_quantization),
        *_value("--speculative-num-steps", told.num_steps),
        *_value("--speculative-eagle-topk", told.eagle_topk),
        *_value("--speculative-num-draft-tokens", told.num_draft_tokens),
        *_value("--speculative-ngram-max-bfs-breadth", told.ngram_breadth),
        *_value("--speculative-ngram-max-trie-depth", told.ngram_depth),
    ]
