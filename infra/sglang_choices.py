"""What SGLang 0.5.23 calls its choices, as far as the service's settings name them.

Each is what SGLang's own parser accepts (a test holds them against it), less what needs other hardware than NVIDIA's
GPUs and CPUs. SGLang is not installed where the app is deployed, so a wrong name would otherwise be found by a
container on a GPU, minutes later.
"""

from __future__ import annotations

from typing import Final


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


QUANTIZATIONS: Final[dict[str, int]] = {
    "awq": 75, "awq_marlin": 80, "gptq": 0, "gptq_marlin": 80, "fp8": 80, "mxfp8": 100, "mxfp4": 80, "w4afp8": 90,
    "w8a8_int8": 75, "w8a8_fp8": 89, "compressed-tensors": 70, "bitsandbytes": 70, "gguf": 60, "moe_wna16": 70,
    "modelopt": 89, "modelopt_fp8": 89, "modelopt_fp4": 80, "modelopt_mixed": 80, "nvfp4_online": 100,
    "auto-round": 60, "auto-round-int8": 75, "humming": 75, "unquant": 0,
}  # fmt: skip
"""Method -> the least compute capability (times ten) that it needs: `get_min_capability` of SGLang's class for it."""

CPU_ONLY: Final = frozenset({"gptq"})
"""Quantizations whose kernels for GPUs are gone: a GPTQ checkpoint is `gptq_marlin` there, and says so itself."""

CPU_QUANTIZATIONS: Final = frozenset({"fp8", "w8a8_int8", "compressed-tensors", "awq", "gptq", "mxfp4", "auto-round"})
"""Those that SGLang has on the CPU (`CPU_QUANTIZATION_METHODS`)."""

ATTENTION_BACKENDS: Final[dict[str, tuple[int, ...]]] = {
    "flashinfer": (), "triton": (), "torch_native": (), "flex_attention": (), "fa3": (8, 9), "fa4": (),
    "flashmla": (), "cutedsl_mla": (), "trtllm_mla": (10, 12), "trtllm_mha": (9, 10, 12), "dsa": (), "intel_amx": (),
}  # fmt: skip
"""Backend -> the majors of the compute capabilities that it runs on; none where SGLang refuses none by itself."""

CPU_ATTENTION_BACKENDS: Final = frozenset({"intel_amx", "torch_native"})

KV_CACHE_DTYPES: Final = ("auto", "bfloat16", "fp8_e5m2", "fp8_e4m3", "mxfp8", "nvfp4", "fp4_mx_block16")

TOOL_CALL_PARSERS: Final = words(
    """
    auto apertus2509 beam cohere_command4 deepseekv3 deepseekv31 deepseekv32 deepseekv4 deepseekv41 dots gemma4
    gigachat3 gigachat35 glm glm45 glm47 gpt-oss hermes hunyuan inkling interns1 iquest_q1 k2_horizon kimi_k2 kimi_k3
    lfm2 ling3 llama3 mimo minicpm5 minimax-m2 minimax-m3 mistral muse nanbeige poolside_v1 pythonic qwen qwen25
    qwen3_coder response_template spark25 step3 step3p5 trinity
    """
)

REASONING_PARSERS: Final = words(
    """
    auto apertus2509 beam cohere_command4 deepseek-r1 deepseek-v3 deepseek-v4 deepseek-v41 dots gemma4 gigachat35 glm45
    gpt-oss granite_thinking_parser hunyuan inkling interns1 iquest_q1 k2_horizon kimi kimi_k2 kimi_k3 ling3 mimo
    minimax minimax-append-think minimax-m3 mistral muse nanbeige nemotron_3 poolside_v1 qwen3 qwen3-thinking
    response_template step3 step3p5
    """
)

DRAFTED: Final = frozenset({"EAGLE", "EAGLE3", "STANDALONE"})
"""Ways of speculative decoding in which another model drafts."""
SELF_DRAFTED: Final = frozenset({"NEXTN", "NGRAM"})
"""Those in which the model's own further heads do, or what was said before."""
