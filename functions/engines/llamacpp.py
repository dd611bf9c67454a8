"""llama.cpp (through `xllamacpp`): GGUF models on the CPU, and on Metal on a Mac. The embedded default.

It runs as a process of its own (`llamacpp_server.py`): a file that crashes it takes no container along, and it can
be killed in the middle of a stream. What a caller's leaving costs: a stream that is being decoded ends within
milliseconds; a prompt that is being read, at the next batch of `BATCH` tokens if the request says
`"return_progress": true`; a request that does not stream runs to its end, so the relay always streams.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import HTTPError

from functions.engines import llamacpp_server
from functions.engines.base import EngineSleepError, EngineStartError, smallest_request
from functions.engines.llamacpp_server import API_KEY_VARIABLE, IMPORTED, Options
from functions.engines.process import ServerProcess, must_be_free
from functions.engines.surroundings import handed_on
from infra.gguf_files import only_model, part_missing, parts_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.boot import Boot
    from functions.engines.base import Address
    from infra.settings import EngineKind, Model

BATCH: Final = 128
CACHE_MIB: Final = 256
"""Memory for the prompts of conversations that lost their slot to another. llama.cpp's own default is 8 GiB."""
TINY_BYTES: Final = 50_000_000
"""Below this size of file a second thread costs more in waiting for each other than it computes."""
MOST_THREADS: Final = 8
"""A container sees all CPUs of its host, but is not given them."""
TRY_SECONDS: Final = 60.0
_MAGIC: Final = b"GGUF"
_LOAD_ERROR: Final = "error loading model: "


def threads_for(file: Path, *, cpus: int) -> int:
    """Half of the CPUs, the other half is for everybody else: llama.cpp's threads spin while they wait."""
    size = sum(part.stat().st_size for part in parts_of(file))
    return 1 if size < TINY_BYTES else max(1, min(MOST_THREADS, cpus // 2))


def usable_cpus() -> int:
    """The CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gguf_file(source: Path) -> Path:
    """The GGUF file that `source` is, or holds as its only one; of a model in parts the first, and all are there.
    Raises EngineStartError: the path, and what to do."""
    if source.is_dir():
        found = sorted(source.glob("*.gguf"))
        model = only_model(found)
        if model is None:
            names = ", ".join(file.name for file in found) or "none"
            raise EngineStartError(
                f"{source}: expected one .gguf file in this folder, found {names}; set `path` to the file"
            )
        source = model
    if missing := part_missing(source):
        raise EngineStartError(f"{source}: {missing}")
    try:
        with source.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise EngineStartError(f"{source}: there is no such model file; check the model's `path`") from None
    except OSError as error:
        raise EngineStartError(f"{source}: the model file cannot be read: {error.strerror or error}") from None
    if magic != _MAGIC:
        raise EngineStartError(
            f"{source}: is not a GGUF file, and llama.cpp runs nothing else; set `path` to a .gguf file"
        )
    return source


def load_error(lines: Sequence[str]) -> str | None:
    """What llama.cpp said was wrong with the model file, if that is what it said."""
    said = (line.partition(_LOAD_ERROR)[2].strip() for line in lines if _LOAD_ERROR in line)
    return next(said, None)


class LlamaCppEngine:
    """A llama.cpp server for one GGUF model.

    `source` is a .gguf file, the first of a model's parts, or a folder with one model. `max_requests` is how many
    requests it works on at once; further ones wait their turn. Construction touches nothing: a bad file is an
    EngineStartError of `start`.
    """

    def __init__(
        self,
        model: Model,
        *,
        source: str,
        address: Address,
        api_key: str | None,
        max_requests: int,
        threads: int | None = None,
        batch: int = BATCH,
        cache_mib: int = CACHE_MIB,
        boot: Boot | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.address = address
        self.model = model
        self.source = Path(source)
        self.api_key = api_key
        self.max_requests = max_requests
        self.threads = threads
        self.batch = batch
        self.cache_mib = cache_mib
        self.boot = boot
        self.environment = environment or {}
        self.process: ServerProcess | None = None
        self._lock = threading.Lock()
        self._stopped = False

    @property
    def kind(self) -> EngineKind:
        return "llamacpp"

    @property
    def can_sleep(self) -> bool:
        """llama.cpp cannot set its weights aside and take them back: stopping it is the way to free its memory."""
        return False

    def start(self) -> None:
        file = gguf_file(self.source)
        must_be_free(self.address, "llama.cpp")
        with self._lock:
            if self._stopped:
                raise EngineStartError(f"llamacpp ({self.model.id}) was stopped before it started")
            self.process = self._make_process(file)
        try:
            self.process.start(float(self.model.startup_timeout))
        except EngineStartError as error:
            reason = load_error(self.process.last_lines)
            if reason is None:
                raise
            message = f"{file}: llama.cpp cannot load it ({reason}); fetch it again, or set `path` to another file"
            raise EngineStartError(message) from error
        if self.model.embedding:
            self._try_to_embed(file)

    def healthy(self, timeout: float = 2.0) -> bool:
        return self.process is not None and self.process.healthy(timeout)

    def answers(self, timeout: float) -> bool | None:
        if self.process is None:
            return False
        return self.process.answers(*smallest_request(self.model.id, embedding=self.model.embedding), timeout)

    def busy(self) -> int:
        """How many requests it is working on now. Raises OSError when it does not answer."""
        if self.process is None:
            return 0
        with self.process.request("GET", "/slots", timeout=2.0) as answer:
            return sum(slot["is_processing"] for slot in json.load(answer))

    def sleep(self) -> None:
        raise EngineSleepError("llama.cpp cannot be put to sleep: stop it instead, it loads in well under a second")

    def wake(self) -> None:
        raise EngineSleepError("llama.cpp cannot be put to sleep, so there is nothing to wake")

    def wait(self) -> None:
        if self.process is not None:
            self.process.wait()

    def stop(self, *, at_once: bool = False) -> None:
        with self._lock:
            self._stopped = True
        if self.process is not None:
            self.process.stop(at_once=at_once)

    def _try_to_embed(self, file: Path) -> None:
        """Embed a word: a file that does not say how its embeddings are pooled loads, and refuses every request."""
        assert self.process is not None
        self.process.boot.begins("warm_up")
        try:
            self.process.request("POST", "/v1/embeddings", body=b'{"input":"a"}', timeout=TRY_SECONDS).close()
        except OSError as error:
            self.process.stop()
            raise EngineStartError(
                f"{file}: llama.cpp makes no embeddings of it ({_said(error)}); set the model's `pooling` (mean, cls "
                "or last), or another file"
            ) from None

    def _make_process(self, file: Path) -> ServerProcess:
        options = Options(
            model=str(file),
            alias=self.model.id,
            host=self.address.host,
            port=self.address.port,
            context=self.model.context_length,
            parallel=self.max_requests,
            threads=self.threads or threads_for(file, cpus=usable_cpus()),
            batch=self.batch,
            cache_mib=self.cache_mib,
            embedding=int(self.model.embedding),
            pooling=self.model.pooling or "",
        )
        return ServerProcess(
            name=f"llamacpp ({self.model.id})",
            command=[sys.executable, "-P", llamacpp_server.__file__, *options.arguments()],
            address=self.address,
            environment={**handed_on(os.environ), **self.environment, API_KEY_VARIABLE: self.api_key or ""},
            health_path="/slots",  # told by the loop that computes: /health is answered by whoever listens
            ready_path="/health",
            boot=self.boot,
            landmarks={IMPORTED: "weights"},
            headers={"authorization": f"Bearer {self.api_key}"} if self.api_key else None,
        )


def _said(error: OSError) -> str:
    """What llama.cpp answered to a request that it refused, else what became of the request."""
    if not isinstance(error, HTTPError):
        return str(error)
    body = error.read(2000)
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")
