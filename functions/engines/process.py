"""A server process: started, waited for, watched and stopped. Engines that are a command line are made of it."""

from __future__ import annotations

import collections
import contextlib
import http.client
import json
import logging
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from functions.boot import Boot
from functions.engines.asking import ask_directly
from functions.engines.base import EngineStartError
from functions.engines.tied import tied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from functions.boot import Phase
    from functions.engines.base import Address

POLL_SECONDS = 0.05
READY_SECONDS = 2.0
"""How long a server that starts may take to say whether it is ready; then it is asked again."""
LINES_KEPT = 12
STOP_SECONDS = 5.0
KILL_SECONDS = 8.0
"""After which what was killed and is still there is in the kernel's hands: a driver that does not return."""
LONGEST_ANSWER = 1 << 20
"""Bytes of the answer to the smallest request, above which it is none."""
BUSY_STATUSES = (408, 429, 503)
LOWEST_REFUSAL = 400
LOWEST_FAILURE = 500
log = logging.getLogger("functions.engines.output")
OWN_SESSION = sys.platform == "linux"
"""Where `tied` works, so that nothing outlives this process though no signal to its group reaches it."""


def must_be_free(address: Address, name: str) -> None:
    """Raise EngineStartError when something listens there: its health check would be taken for the engine's, and it
    would be asked with the engine's key. `name`: whose address it is to be."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError as error:
            reason = error.strerror or error
            raise EngineStartError(f"{name} cannot listen at {address.host}:{address.port}: {reason}") from None


class ServerProcess:
    """One process that serves HTTP at `address`.

    On Linux it has a session of its own: Ctrl-C in a terminal is this process's to hear, which has answers to finish.
    It is killed when this process dies without a word, and what it has started is killed when it is gone. Elsewhere
    nothing sees to the former, so it stays in the caller's process group: whoever kills that kills it too. What it
    writes goes to this process's log, and its last lines into the error when it dies while starting.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        address: Address,
        environment: Mapping[str, str] | None = None,
        health_path: str = "/health",
        ready_path: str | None = None,
        headers: Mapping[str, str] | None = None,
        boot: Boot | None = None,
        landmarks: Mapping[str, Phase] | None = None,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """`environment`: all of it; None: this process's. `ready_path`: what `start` asks in the place of
        `health_path`. `boot` is told what its log says of it: `landmarks` are parts of lines, and the phase that begins
        with them. `stop_seconds`: what it is given to end by itself when it is told to."""
        self.name = name
        self.command = command
        self.address = address
        self.environment = environment
        self.health_path = health_path
        self.ready_path = ready_path or health_path
        self.headers = headers or {}
        self.boot = boot or Boot()
        self.landmarks = landmarks or {}
        self.stop_seconds = stop_seconds
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES_KEPT)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._group: int | None = None
        """That of the process and of what it starts, until all of it was ended."""

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that it wrote."""
        return tuple(self._lines)

    def start(self, timeout: float) -> None:
        """Start it and return once it answers its health check.

        Raises EngineStartError when it ends, cannot be started, is stopped, or is not healthy within `timeout` seconds.
        """
        with self._lock:
            if self._stopped:
                raise EngineStartError(f"{self.name} was stopped before it started")
            self.boot.begins("import")
            self._process = self._start()
            self._group = self._process.pid if OWN_SESSION else None
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                code = self._process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if self._answers(self.ready_path, max(POLL_SECONDS, min(READY_SECONDS, left))):
                    return
            else:
                self._end_what_is_left()
                if self._reader is not None:
                    self._reader.join(timeout=STOP_SECONDS)
                raise EngineStartError(self._epitaph(code))
        self.stop()
        raise EngineStartError(f"{self.name} was not ready within {timeout:.0f} s and was stopped")

    def healthy(self, timeout: float = 2.0) -> bool:
        """Whether it answers its health check with 200 now. Never raises."""
        return self._answers(self.health_path, timeout)

    def _answers(self, path: str, timeout: float) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            with self.request("GET", path, timeout=timeout) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def answers(self, path: str, body: Mapping[str, object], timeout: float) -> bool | None:
        """See `Engine.answers`: the request that is made. A refusal of it (4xx) is an answer, too."""
        try:
            with self.request("POST", path, timeout=timeout, body=json.dumps(body).encode()) as answer:
                document = json.loads(answer.read(LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            return None if error.code in BUSY_STATUSES else LOWEST_REFUSAL <= error.code < LOWEST_FAILURE
        except urllib.error.URLError as error:
            return None if isinstance(error.reason, TimeoutError) else False
        except TimeoutError:
            return None
        except (OSError, http.client.HTTPException, ValueError, RecursionError):
            return False
        return isinstance(document, dict) and bool(document.get("choices") or document.get("data"))

    def request(self, method: str, path: str, *, timeout: float, body: bytes = b"{}") -> http.client.HTTPResponse:
        """One request to the server; `body`: JSON, of a POST; `timeout`: seconds for all of it, to the end of the
        answer. Raises OSError (urllib's errors are ones) when it is not answered with success."""
        request = urllib.request.Request(self.address.url + path, method=method, headers=dict(self.headers))  # noqa: S310
        if method == "POST":
            request.data = body
            request.add_header("content-type", "application/json")
        try:
            return ask_directly(request, timeout=timeout)
        except http.client.HTTPException as error:
            raise OSError(f"what it answers is no HTTP ({type(error).__name__})") from error

    def wait(self) -> None:
        """Return once it has ended, for whatever reason; at once before `start`."""
        if self._process is not None:
            self._process.wait()
            self._end_what_is_left()

    def stop(self, *, at_once: bool = False) -> None:
        """Stop it: SIGTERM (unless `at_once`), then SIGKILL, to it and to what it has started. Returns when it is gone.
        Idempotent. One that cannot be killed is told of in the log."""
        with self._lock:
            self._stopped = True
        if self._process is None:
            return
        try:
            if not at_once:
                self._process.terminate()
            self._process.wait(0 if at_once else self.stop_seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(KILL_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("%s (process %d) was killed, and is still there", self.name, self._process.pid)
        self._end_what_is_left()

    def _end_what_is_left(self) -> None:
        """Kill what the process has started, once it is gone itself: it had its time to see to that. Once only: after
        that its number may be another's."""
        with self._lock:
            group, self._group = self._group, None
        if group is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)

    def _start(self) -> subprocess.Popen[str]:
        if shutil.which(self.command[0]) is None:
            raise EngineStartError(f"{self.name} could not be started: there is no program {self.command[0]}")
        started: queue.Queue[subprocess.Popen[str] | OSError] = queue.Queue()
        self._reader = threading.Thread(target=self._run, args=(started,), name=f"{self.name}-log", daemon=True)
        self._reader.start()
        process = started.get()
        if isinstance(process, OSError):
            raise EngineStartError(f"{self.name} could not be started: {process}")
        return process

    def _run(self, started: queue.Queue[subprocess.Popen[str] | OSError]) -> None:
        """Start it and read what it writes, in one thread: it is tied to the thread that starts it."""
        try:
            process = subprocess.Popen(  # noqa: S603 - the command is ours
                tied(self.command),
                env=None if self.environment is None else dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=OWN_SESSION,
            )
        except OSError as error:
            started.put(error)
            return
        started.put(process)
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self._lines.append(line.rstrip())
                self.boot.reads(line, self.landmarks)
                self._pass_on(line.rstrip())
        process.wait()

    def _pass_on(self, line: str) -> None:
        """To this process's log, as lines of the engine; as it is, where none was set up."""
        if log.hasHandlers():
            log.info("%s", line, extra={"engine": self.name})
            return
        with contextlib.suppress(OSError, ValueError):  # nobody reads it any more: no reason to end
            print(line, file=sys.stderr, flush=True)

    def _epitaph(self, code: int) -> str:
        if self._stopped:
            return f"{self.name} was stopped while it started"
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        last = next((line for line in reversed(self._lines) if line.strip()), "it wrote nothing")
        return f"{self.name} {how} while starting: {last}"
