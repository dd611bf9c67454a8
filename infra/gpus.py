"""The GPUs that Modal rents, by its names for them, and what of them decides which model and kernels they run.

Names and counts: modal.com/docs/guide/gpu (read in November 2026); capabilities: developer.nvidia.com/cuda-gpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU."""

    capability: int
    """CUDA's compute capability, times ten."""
    memory_gb: int
    most: int = 8
    """How many one container may have."""


GPUS: Final[dict[str, Gpu]] = {
    "T4": Gpu(capability=75, memory_gb=16),
    "L4": Gpu(capability=89, memory_gb=24),
    "A10": Gpu(capability=86, memory_gb=24, most=4),
    "A10G": Gpu(capability=86, memory_gb=24, most=4),
    "L40S": Gpu(capability=89, memory_gb=48),
    "A100": Gpu(capability=80, memory_gb=40),
    "A100-40GB": Gpu(capability=80, memory_gb=40),
    "A100-80GB": Gpu(capability=80, memory_gb=80),
    "RTX-PRO-6000": Gpu(capability=120, memory_gb=96),
    "H100": Gpu(capability=90, memory_gb=80),
    "H100!": Gpu(capability=90, memory_gb=80),
    "H200": Gpu(capability=90, memory_gb=141),
    "B200": Gpu(capability=100, memory_gb=192),
    "B200+": Gpu(capability=100, memory_gb=192),
}


def split(gpu: str) -> tuple[str, int]:
    """Name and count of what Modal is asked for: `"h100:2"` is two of `H100`. Raises ValueError: what was expected."""
    name, colon, count = gpu.partition(":")
    name = name.upper()
    if name not in GPUS:
        raise ValueError(f"gpu: Modal has no {name!r}; expected one of {', '.join(GPUS)}, and :2 and so on behind it")
    if colon and not (count.isascii() and count.isdigit() and 1 <= int(count) <= GPUS[name].most):
        raise ValueError(f"gpu: {gpu!r}: expected a count of 1 to {GPUS[name].most} behind {name}")
    return name, int(count or 1)
