"""The flags of SGLang's server that are not for `sglang.flags`, each with what sets it instead."""

from __future__ import annotations

from typing import Final

_SETTING: Final = {
    "model-path": "path, or name", "model": "path, or name", "revision": "revision",
    "served-model-name": "id", "context-length": "context_length", "device": "device",
    "enable-weights-cpu-backup": "snapshot", "enable-draft-weights-cpu-backup": "snapshot",
    "enable-memory-saver": "snapshot",
    "is-embedding": "embedding", "max-running-requests": "sglang.max_running_requests",
    "tp-size": "sglang.tensor_parallel", "tensor-parallel-size": "sglang.tensor_parallel",
    "dp-size": "sglang.data_parallel", "data-parallel-size": "sglang.data_parallel",
    "attn-dp-size": "sglang.attention_data_parallel", "enable-dp-attention": "sglang.attention_data_parallel",
    "attention-data-parallel-size": "sglang.attention_data_parallel",
    "ep": "sglang.expert_parallel", "ep-size": "sglang.expert_parallel",
    "expert-parallel-size": "sglang.expert_parallel",
    "quantization": "sglang.quantization", "dtype": "sglang.dtype", "kv-cache-dtype": "sglang.kv_cache_dtype",
    "attention-backend": "sglang.attention_backend", "tool-call-parser": "sglang.tool_call_parser",
    "reasoning-parser": "sglang.reasoning_parser", "mem-fraction-static": "sglang.memory_fraction",
    "max-total-tokens": "sglang.max_total_tokens", "chunked-prefill-size": "sglang.chunked_prefill_size",
    "disable-radix-cache": "sglang.prefix_cache", "enable-cache-report": "sglang.cache_report",
    "enable-metrics": "sglang.metrics", "trust-remote-code": "sglang.trust_remote_code",
    "enable-hierarchical-cache": "sglang.hierarchical_cache", "enable-hicache": "sglang.hierarchical_cache",
    "hicache-ratio": "sglang.hierarchical_cache.ratio", "hicache-size": "sglang.hierarchical_cache.size_gb",
    "hicache-write-policy": "sglang.hierarchical_cache.write_policy",
    "enable-lora": "sglang.lora.adapters", "lora-paths": "sglang.lora.adapters",
    "max-loras-per-batch": "sglang.lora.max_per_batch", "max-loaded-loras": "sglang.lora.max_loaded",
    "lora-backend": "sglang.lora.backend", "lora-eviction-policy": "sglang.lora.eviction",
    "speculative-algorithm": "sglang.speculative.algorithm",
    "speculative-draft-model-path": "sglang.speculative.draft_model",
    "speculative-draft-model": "sglang.speculative.draft_model",
    "speculative-draft-model-revision": "sglang.speculative.draft_revision",
    "speculative-draft-model-quantization": "sglang.speculative.draft_quantization",
    "speculative-num-steps": "sglang.speculative.num_steps",
    "speculative-eagle-topk": "sglang.speculative.eagle_topk",
    "speculative-num-draft-tokens": "sglang.speculative.num_draft_tokens",
    "speculative-ngram-max-bfs-breadth": "sglang.speculative.ngram_breadth",
    "speculative-ngram-max-trie-depth": "sglang.speculative.ngram_depth",
}  # fmt: skip

_REASON: Final = {
    "host": "the engine listens where Modal sends its requests",
    "port": "the engine listens where Modal sends its requests",
    "api-key": "the engine has a key of its own, which is made where the service is set up",
    "admin-api-key": "the engine has a key of its own, which is made where the service is set up",
    "config": "a file could set what the service sets; name its flags here",
    "constrained-json-disable-any-whitespace": "constrained JSON is always compact",
    "sleep-on-idle": "it is on wherever there is no GPU",
    "grpc-mode": "the service asks the engine over HTTP",
    "smg-grpc-mode": "the service asks the engine over HTTP",
    "ssl-certfile": "the platform ends TLS in front of the engine",
    "ssl-keyfile": "the platform ends TLS in front of the engine",
    "nnodes": "a model is served by one container",
    "node-rank": "a model is served by one container",
    "dist-init-addr": "a model is served by one container",
    "pp-size": "a model is served by one container, over whose GPUs tensor_parallel spreads it",
    "pipeline-parallel-size": "a model is served by one container, over whose GPUs tensor_parallel spreads it",
    "skip-tokenizer-init": "the service sends text",
    "incremental-streaming-output": "OpenAI's streams are of increments already",
}

TAKEN: Final[dict[str, str]] = {
    **{flag: f"expected {setting}" for flag, setting in _SETTING.items()},
    **_REASON,
}
"""Flag -> what to set instead, or why it cannot be set."""
