"""The GPUs of this machine, as NVIDIA's own program tells them."""

from __future__ import annotations

import math
import subprocess
from typing import Final

ASK_SECONDS: Final = 20.0
MIB_PER_GIB: Final = 1024


def asked_of_cards(what: str) -> list[str]:
    """A line for each GPU, of what `nvidia-smi --help-query-gpu` lists; none where that cannot be told. Blocks for a
    second or two."""
    command = ["nvidia-smi", f"--query-gpu={what}", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(  # noqa: S603 - the command is ours
            command, capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.stdout.splitlines() if line.strip()]


def largest_gib() -> float:
    """The memory of the largest GPU here, in GiB; infinite where it cannot be told (there is none, it is another
    maker's, or shares the machine's memory). The largest, since which of them CUDA counts as its first is its own
    to say."""
    told = asked_of_cards("memory.total")
    return max((int(mib) / MIB_PER_GIB for mib in told if mib.isascii() and mib.isdigit()), default=math.inf)
