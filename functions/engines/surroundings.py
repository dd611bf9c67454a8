"""What of this process's environment its engines are handed: what they run with, and none of the service's secrets.

It is a list of what is handed on, not of what is kept back: what nobody thought of stays here. So the keys of the
service, AWS's and Modal's credentials and tokens of any kind are in no engine's environment, nor in what it or its
libraries make of that (a report of a crash, telemetry). This is no wall: code that runs in an engine runs as the same
user as the service, and could look for them elsewhere. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES: Final = """
    PATH HOME USER LOGNAME SHELL PWD TERM TMPDIR TMP TEMP TZ LANG LANGUAGE HOSTNAME HOST_IP VIRTUAL_ENV
    CC CXX CPATH LIBRARY_PATH CPLUS_INCLUDE_PATH C_INCLUDE_PATH MAX_JOBS CONDA_PREFIX CONDA_EXE
    DO_NOT_TRACK DISABLE_TELEMETRY LOGLEVEL REQUEST_TIMEOUT VIDEO_MAX_PIXELS
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE
    HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
    MASTER_ADDR MASTER_PORT RANK WORLD_SIZE LOCAL_RANK LOCAL_SIZE
"""
NAMES: Final = frozenset(_NAMES.split())
PREFIXES: Final = (
    "LC_", "LD_", "DYLD_", "PYTHON", "GLIBC_", "MALLOC_", "XDG_", "__CF_",  # system, loader, language
    "CUDA", "CUBLAS", "CUDNN_", "NVCC_", "NVRTC_", "NVIDIA_", "NV_", "NVTE_", "NCCL_", "NVSHMEM_", "GDRCOPY_",
    "GLOO_", "UCX_", "IB_", "FI_", "MORI_", "ROCM_", "HIP_", "HSA_", "AITER_",
    "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "ONEDNN_", "DNNL_", "GGML_",
    "TORCH", "PYTORCH_", "ATEN_", "INDUCTOR_", "TRITON_", "TVM_", "TILELANG_", "CUTE_", "CUTLASS_", "DG_",
    "FLASHINFER_", "FLASH_ATTENTION_", "FLA_", "TRTLLM_", "SGLANG_", "SGL_", "LLAMACPP_", "LLGUIDANCE_", "XGRAMMAR_",
    "HF_", "TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_", "RUNAI_STREAMER_", "MOONCAKE_", "PROMETHEUS_", "OTEL_",
)  # fmt: skip
"""Of GPUs, of what computes and compiles on them, and of what loads models and serves them."""
SECRET: Final = frozenset({"TOKEN", "SECRET", "KEY", "KEYS", "PASSWORD", "PASSWD", "CREDENTIALS", "HEADERS"})
"""A name with one of these words is handed on by no prefix: `HF_TOKEN` (weights are fetched before an engine starts),
`OTEL_EXPORTER_OTLP_HEADERS`. Of SGLang's own only where it is the last: a token is mostly a piece of text there
(`SGLANG_INIT_NEW_TOKEN_RATIO`)."""


def handed_on(own: Mapping[str, str]) -> dict[str, str]:
    """Of the environment `own`, what any engine gets; `models.engine_environment` adds to it."""
    return {name: value for name, value in own.items() if _is_handed_on(name)}


def _is_handed_on(name: str) -> bool:
    words = name.upper().split("_")
    telling = words[-1:] if name.startswith("SGLANG_") else words
    return name in NAMES or (name.startswith(PREFIXES) and SECRET.isdisjoint(telling))
