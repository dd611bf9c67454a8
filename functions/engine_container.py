"""One model's engine in its container: started, made ready for a snapshot, woken, watched, and gone with it.

What can go wrong is told to callers. An engine that cannot start is answered for by a small server on its port; one
that cannot be put to sleep or does not wake is started anew, as if there were no snapshots.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.boot import Boot, BootPhases, container_seconds
from functions.compile_cache import CompileCache, folder_of, gpus_here, installed_versions, key_of, variables
from functions.engine_metrics import EngineReporter
from functions.engines.base import Address, EngineError, EngineStartError
from functions.engines.failed import FailureServer
from functions.engines.registry import make_engine
from functions.images import COMPILED, compiled_volume, keeps_compiled, model_folder
from functions.logs import configure_logging
from functions.watch import Watch
from infra.configuration import load_settings
from infra.secrets import ENGINE_API_KEY, HF_TOKEN

if TYPE_CHECKING:
    from typing import Self

    from functions.engines.base import Engine
    from infra.settings import Model, Settings

MODEL_VARIABLE: Final = "MODEL_ID"
PORT_VARIABLE: Final = "ENGINE_PORT"
WARM_UPS: Final = 3
"""Requests before a snapshot is taken: what they compile and capture need not be compiled after it."""
WARM_UP_SECONDS: Final = 120.0
KEEP_SECONDS: Final = 24.0
"""Of the 30 s that the end of a container may take: until then it may write what it has compiled."""
GIVE_UP_SECONDS: Final = 3.0
FAILURE_SECONDS: Final = 300.0
"""For so long callers are told why an engine could not start; then its container leaves, so that another may try."""

log = logging.getLogger(__name__)


class EngineContainer:
    """The engine of the model that `MODEL_ID` names, on the port `ENGINE_PORT`."""

    def __init__(self, settings: Settings, model: Model, *, address: Address) -> None:
        self.settings = settings
        self.model = model
        self.address = address
        self.boot: BootPhases | None = None
        """How long it took until it was ready, once it is."""
        self.engine: Engine | None = None
        self._cache = self._compile_cache()
        self._watch: Watch | None = None
        self._failure: FailureServer | None = None
        self._reporter: EngineReporter | None = None
        self._leaving = threading.Event()
        self._lock = threading.Lock()

    @classmethod
    def here(cls) -> Self:
        """As this container's environment says. Raises LookupError where no such model is configured."""
        settings = load_settings()
        label = os.environ[MODEL_VARIABLE]
        configure_logging(settings, model=label)
        model = settings.models.find(label)
        if model is None:
            raise LookupError(f"{MODEL_VARIABLE}={label!r} is not among the configured models")
        address = Address(host="0.0.0.0", port=int(os.environ[PORT_VARIABLE]))  # noqa: S104 - the container's own network
        return cls(settings, model, address=address)

    def start(self, boot: Boot) -> None:
        """Start and serve; or say why not, to whoever asks. Raises OSError where nothing can listen on the port."""
        message: str | None = None
        try:
            self._start(boot)
        except EngineStartError as error:
            message = error.message
        except Exception:
            log.exception("the engine of %s could not be started", self.model.id)
            message = "the service could not run its engine; its log says more"
        if message is not None:
            self._answer_for_it(message)
            return
        self._serve(boot.is_ready())
        if self._cache is not None:
            self._cache.keep_soon()

    def prepare(self) -> None:
        """Start, warm up, and sleep, so that a snapshot can be taken. What fails here is tried again by `resume`,
        without one: no snapshot is to hold a failure."""
        boot = Boot(container=container_seconds())
        try:
            engine = self._start(boot)
            for _ in range(WARM_UPS):
                engine.answers(WARM_UP_SECONDS)
            phases = boot.is_ready()
            if self._cache is not None:
                self._cache.keep()
            engine.sleep()
        except Exception as error:
            log.error(
                "model %s is in no snapshot: %s", self.model.id, error, exc_info=not isinstance(error, EngineError)
            )
            self._drop()
            return
        told = {"model": self.model.id, "boot_seconds": dict(phases.seconds)}
        log.info("model %s is asleep, for a snapshot: %s", self.model.id, phases, extra=told)

    def resume(self) -> None:
        """Serve: with what the snapshot holds, or else from the start. Raises as `start` does."""
        boot = Boot()  # how old a restored process is, nothing tells
        if self.engine is not None:
            boot.begins("resume")
            try:
                self.engine.wake()
            except EngineError as error:
                log.error("model %s is started anew: %s", self.model.id, error.message)
                self._drop()
            else:
                self._serve(boot.is_ready(), resumed=True)
                return
        self.start(Boot())

    def stop(self) -> None:
        """End, and keep what was compiled since, as far as the time for both is enough."""
        self._leaving.set()
        keeping, ends = None if self._cache is None else self._cache.keep_soon(), time.monotonic() + KEEP_SECONDS
        if self._reporter is not None:
            self._reporter.stop()  # while there is an engine to be asked
        if self._watch is not None:
            self._watch.end()
        if self._failure is not None:
            self._failure.stop()
        self._drop()
        if keeping is not None and self._cache is not None:
            keeping.join(max(0.0, ends - time.monotonic()))
            self._cache.give_up()
            keeping.join(GIVE_UP_SECONDS)

    def _start(self, boot: Boot) -> Engine:
        if self._cache is not None:
            self._cache.restore()
        self.engine = make_engine(
            self.model,
            self.settings,
            address=self.address,
            files=Path(model_folder(self.model)),
            api_key=os.environ.get(ENGINE_API_KEY),
            hf_token=os.environ.get(HF_TOKEN),
            boot=boot,
            environment={} if self._cache is None else variables(self._cache.folder),
        )
        self.engine.start()
        return self.engine

    def _serve(self, phases: BootPhases, *, resumed: bool = False) -> None:
        assert self.engine is not None
        self.boot = phases
        told = {"model": self.model.id, "boot_seconds": dict(phases.seconds)}
        log.info("model %s is ready: %s", self.model.id, phases, extra=told)
        self._report().ready(phases, resumed=resumed)
        self._watch = Watch(self.engine, self.settings.health, name=self.model.id, then=self._leave)
        self._watch.begin()
        leave = threading.Thread(
            target=self._leave_with, args=(self.engine, self._watch), name="engine-end", daemon=True
        )
        leave.start()

    def _leave_with(self, engine: Engine, watch: Watch) -> None:
        engine.wait()
        watch.end()
        self._leave()

    def _leave(self) -> None:
        """End the container, once; not where it ends already."""
        with self._lock:
            if self._leaving.is_set():
                return
            self._leaving.set()
        why = (self._watch and self._watch.verdict) or "it ended by itself"
        log.error("the engine is gone (%s): the container leaves, so that another can come", why)
        os.kill(os.getpid(), signal.SIGTERM)

    def _report(self) -> EngineReporter:
        """Not before a snapshot: it begins with a container's own life."""
        self._reporter = EngineReporter(
            self.model, self.settings, address=self.address, api_key=os.environ.get(ENGINE_API_KEY)
        )
        return self._reporter

    def _answer_for_it(self, message: str) -> None:
        log.error("model %s cannot be served: %s", self.model.id, message)
        self._report().failed()
        self._drop()
        self._failure = FailureServer(self.address, message)
        try:
            self._failure.start()
        except OSError as taken:
            log.error("and port %d cannot tell so to callers: %s", self.address.port, taken)
            raise
        threading.Thread(target=self._leave_after, args=(FAILURE_SECONDS,), name="engine-failed", daemon=True).start()

    def _leave_after(self, seconds: float) -> None:
        """What kept the engine from starting may pass (a hub that is down, a GPU), and a container whose callers come
        back would stay for ever."""
        if not self._leaving.wait(seconds):
            log.error("the container leaves, so that another can try to start %s", self.model.id)
            os.kill(os.getpid(), signal.SIGTERM)

    def _drop(self) -> None:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.stop()

    def _compile_cache(self) -> CompileCache | None:
        if not keeps_compiled(self.model, self.settings):
            return None
        name = key_of(gpus_here(), installed_versions())
        return CompileCache(
            archive=Path(COMPILED) / self.model.id / f"{name}.tar",
            folder=folder_of(self.model.id),
            commit=lambda: compiled_volume(self.settings).commit(),
        )
