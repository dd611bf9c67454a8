"""SGLang: its own server as a subprocess, on CUDA (and on the CPU, slowly, where a test wants the very same code path).

Its routes are those of SGLang 0.5.23; `sglang_command` makes its command line.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from functions.engines.base import EngineSleepError, EngineStartError, smallest_request
from functions.engines.process import ServerProcess, must_be_free
from functions.engines.sglang_command import Sources, command_line
from functions.engines.surroundings import handed_on

if TYPE_CHECKING:
    from collections.abc import Mapping

    from functions.boot import Boot, Phase
    from functions.engines.base import Address
    from infra.settings import Device, EngineKind, Model

LANDMARKS: dict[str, Phase] = {"Load weight begin": "weights", "Load weight end": "warm_up"}
"""What it logs when a phase of its boot begins. Before them its modules are loaded, twice: in the server's process,
then in that of each GPU; after them come the KV cache, CUDA graphs and a first request."""
MEMORY_SECONDS = 120.0
"""How long releasing or resuming the accelerator's memory may take."""
STOP_SECONDS = 12.0
"""What it is given to end in order: it looks for SIGTERM every 5 s, lets requests end, and has its schedulers release
what they hold on the GPU and in shared memory, a second or two. The end of a container may take 30 s in all."""


def that_wakes(command: list[str], *, snapshot: bool) -> list[str]:
    """The command line of a server that is to be in a snapshot: it can give back the GPU's memory; its weights
    (and those of a model that drafts for it) go to the CPU's then, and come back from there. Pure.

    Elsewhere nothing asks for that: SGLang allocates in another way then, and refuses some of what loads it faster.
    """
    if not snapshot:
        return command
    drafts = any(part.partition("=")[0] == "--speculative-algorithm" for part in command)
    command = [*command, "--enable-memory-saver", "--enable-weights-cpu-backup"]
    return [*command, "--enable-draft-weights-cpu-backup"] if drafts else command


class SGLangEngine:
    """An SGLang server for one model."""

    def __init__(
        self,
        model: Model,
        *,
        device: Device,
        sources: Sources,
        address: Address,
        api_key: str | None,
        max_requests: int,
        cuda_visible_devices: str | None = None,
        boot: Boot | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.device = device
        self.startup_timeout = float(model.startup_timeout)
        # All that it loads lies on this disk: it is not to ask Hugging Face about it, nor to wait where that is down.
        variables = {"HF_HUB_OFFLINE": "1", **handed_on(os.environ), **(environment or {})}
        if device == "cpu":
            variables["SGLANG_USE_CPU_ENGINE"] = "1"  # without it, SGLang looks for a GPU whatever `--device` says
        if cuda_visible_devices is not None:
            variables["CUDA_VISIBLE_DEVICES"] = cuda_visible_devices
        self.api_key = api_key
        self.key_file = Path(tempfile.gettempdir()) / f"sglang-{secrets.token_hex(8)}.yaml"
        """Where SGLang reads its key from, while it runs: a command line is for every user to see."""
        self.process = ServerProcess(
            name=f"sglang ({model.id})",
            command=that_wakes(
                command_line(
                    model,
                    device=device,
                    sources=sources,
                    address=address,
                    max_requests=max_requests,
                    further_file=str(self.key_file) if api_key else None,
                ),
                snapshot=self.can_sleep,
            ),
            address=address,
            environment=variables,
            ready_path="/ready",  # /health takes a second or more: it has a token made
            boot=boot,
            landmarks=LANDMARKS,
            headers={"authorization": f"Bearer {api_key}"} if api_key else None,
            stop_seconds=STOP_SECONDS,
        )

    @property
    def kind(self) -> EngineKind:
        return "sglang"

    @property
    def can_sleep(self) -> bool:
        return self.device == "cuda" and self.model.snapshot

    def start(self) -> None:
        must_be_free(self.address, "SGLang")
        self._write_key()
        try:
            self.process.start(self.startup_timeout)
        except EngineStartError:
            self._remove_key()
            raise

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
        self._remove_key()

    def stop(self, *, at_once: bool = False) -> None:
        self.process.stop(at_once=at_once)
        self._remove_key()

    def _write_key(self) -> None:
        """For this user alone to read. Raises EngineStartError."""
        if not self.api_key:
            return
        try:
            with os.fdopen(os.open(self.key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump({"api-key": self.api_key}, file)  # which is YAML
        except OSError as error:
            self._remove_key()
            raise EngineStartError(f"SGLang's key cannot be written to {self.key_file}: {error.strerror}") from None

    def _remove_key(self) -> None:
        with contextlib.suppress(OSError):
            self.key_file.unlink(missing_ok=True)

    def _memory(self, verb: str) -> None:
        if not self.can_sleep:
            why = "the model has no `snapshot = true`" if self.device == "cuda" else f"it has none on {self.device}"
            raise EngineSleepError(f"SGLang has no memory saver: {why}")
        try:
            self.process.request("POST", f"/{verb}_memory_occupation", timeout=MEMORY_SECONDS).close()
        except OSError as error:
            raise EngineSleepError(f"SGLang did not {verb} its memory: {error}") from None
