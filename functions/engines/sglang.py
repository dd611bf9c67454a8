"""SGLang: its own server as a subprocess, on CUDA (and on the CPU, slowly, where a test wants the very same code path).

Flags and routes are those of SGLang 0.5.23 (`python -m sglang.launch_server --help`).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from functions.engines.base import EngineSleepError, smallest_request
from functions.engines.process import ServerProcess

if TYPE_CHECKING:
    from functions.boot import Boot, Phase
    from functions.engines.base import Address
    from infra.settings import Device, EngineKind, Model

QUANTIZATION_FLAGS: dict[str, tuple[str, ...]] = {
    "q4": ("--quantization", "awq"),
    "q8": ("--quantization", "w8a8_int8"),
    "bf16": ("--dtype", "bfloat16"),
}
LANDMARKS: dict[str, Phase] = {"Load weight begin": "weights", "Load weight end": "warm_up"}
"""What it logs when a phase of its boot begins. Before them its modules are loaded, twice: in the server's process,
then in that of each GPU; after them come the KV cache, CUDA graphs and a first request."""
MEMORY_SECONDS = 120.0
"""How long releasing or resuming the accelerator's memory may take."""


def command_line(
    model: Model, *, device: Device, source: str, address: Address, api_key: str | None, max_requests: int
) -> list[str]:
    """SGLang's command line for `model`. Pure.

    `source` is a folder: the configured revision, where it was downloaded. `--enable-cache-report` makes usage tell the
    tokens found in the prefix cache, and `--enable-memory-saver` lets it sleep. Constrained JSON is compact: where any
    white space is allowed, a small model may write nothing else until its limit. On a CPU its cache would take most of
    the machine's memory, and its scheduler half of a CPU while there is nothing to do.
    """
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", source, "--served-model-name", model.id]
    command += ["--host", address.host, "--port", str(address.port), "--device", device]
    command += ["--context-length", str(model.context_length), "--max-running-requests", str(max_requests)]
    command += ["--enable-cache-report", "--enable-metrics", "--constrained-json-disable-any-whitespace"]
    if device == "cuda":
        command += ["--enable-memory-saver", "--tensor-parallel-size", str(gpu_count(model.gpu))]
    else:
        command += ["--max-total-tokens", str(model.context_length * max_requests), "--sleep-on-idle"]
    if model.embedding:
        command += ["--is-embedding"]
    if model.quantization is not None:
        command += QUANTIZATION_FLAGS[model.quantization]
    if api_key is not None:
        command += ["--api-key", api_key]
    return [*command, *model.sglang_args]


def gpu_count(gpu: str) -> int:
    """How many GPUs Modal's name for them asks for: `"H100:2"` is two."""
    _, _, count = gpu.partition(":")
    return int(count or 1)


class SGLangEngine:
    """An SGLang server for one model."""

    def __init__(
        self,
        model: Model,
        *,
        device: Device,
        source: str,
        address: Address,
        api_key: str | None,
        max_requests: int,
        cuda_visible_devices: str | None = None,
        boot: Boot | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.device = device
        self.startup_timeout = float(model.startup_timeout)
        environment = dict(os.environ)
        if device == "cpu":
            environment["SGLANG_USE_CPU_ENGINE"] = "1"  # without it, SGLang looks for a GPU whatever `--device` says
        if cuda_visible_devices is not None:
            environment["CUDA_VISIBLE_DEVICES"] = cuda_visible_devices
        self.process = ServerProcess(
            name=f"sglang ({model.id})",
            command=command_line(
                model, device=device, source=source, address=address, api_key=api_key, max_requests=max_requests
            ),
            address=address,
            environment=environment,
            ready_path="/ready",  # /health takes a second or more: it has a token made
            boot=boot,
            landmarks=LANDMARKS,
            headers={"authorization": f"Bearer {api_key}"} if api_key else None,
        )

    @property
    def kind(self) -> EngineKind:
        return "sglang"

    @property
    def can_sleep(self) -> bool:
        return self.device == "cuda"

    def start(self) -> None:
        self.process.start(self.startup_timeout)

    def healthy(self, timeout: float = 2.0) -> bool:
        return self.process.healthy(timeout)

    def answers(self, timeout: float) -> bool | None:
        return self.process.answers(*smallest_request(self.model.id, embedding=self.model.embedding), timeout)

    def sleep(self) -> None:
        self._memory("release")

    def wake(self) -> None:
        self._memory("resume")

    def wait(self) -> None:
        self.process.wait()

    def stop(self) -> None:
        self.process.stop()

    def _memory(self, verb: str) -> None:
        if not self.can_sleep:
            raise EngineSleepError(f"SGLang has no memory saver on {self.device}")
        try:
            self.process.request("POST", f"/{verb}_memory_occupation", timeout=MEMORY_SECONDS).close()
        except OSError as error:
            raise EngineSleepError(f"SGLang did not {verb} its memory: {error}") from None
