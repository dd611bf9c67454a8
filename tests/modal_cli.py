"""The real `modal` CLI, imported once: importing it is most of what a command costs.

One process has `modal` imported and forks for each command; the fork takes the command's environment and directory and
runs the CLI's own `main`. Several commands may run at once.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

POLL = 0.01
INTERRUPT_LIMIT = 30.0

SERVER = """
import atexit, json, os, signal, sys
import modal.cli.entry_point
import modal.__main__

CHILD = {signal.SIGCHLD}

def run(order):
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        os.dup2(os.open(order[name], os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    sys.stdin = open(0, closefd=False)
    sys.stdout.reconfigure(line_buffering=True)
    sys.argv = ["modal", *order["arguments"]]
    sys.path[0] = os.path.dirname(sys.executable)
    code = 1
    try:
        modal.__main__.main()
        code = 0
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

def tell(*words):
    os.write(1, (" ".join(str(word) for word in words) + "\\n").encode())

def reap(*_):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        tell("ended", pid, os.waitstatus_to_exitcode(status))

signal.signal(signal.SIGCHLD, reap)
for line in sys.stdin:
    signal.pthread_sigmask(signal.SIG_BLOCK, CHILD)  # nothing has ended before it is said to have begun
    child = os.fork()
    if not child:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored below a shell's background job
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD)
        run(json.loads(line))
    tell("began", child)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, CHILD)
"""


class Command:
    """A command that runs, and what it has written so far. As a context it is interrupted at the end."""

    def __init__(self, server: CliServer, arguments: tuple[str, ...], folder: tempfile.TemporaryDirectory[str]) -> None:
        self._server = server
        self._folder = folder
        self.arguments = arguments
        self.pid = 0

    @property
    def stdout(self) -> str:
        return self._read("out")

    @property
    def stderr(self) -> str:
        return self._read("err")

    @property
    def output(self) -> str:
        """All that it has written; stderr after stdout."""
        return self.stdout + self.stderr

    @property
    def returncode(self) -> int | None:
        """`None` while it runs; negative for the signal that ended it."""
        return self._server.code_of(self.pid)

    def _read(self, name: str) -> str:
        path = Path(self._folder.name, name)
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for(self, text: str, *, within: float = 30.0) -> str:
        """Wait until it has written `text`; what it has written by then. Raises AssertionError when it ends without."""

        def written() -> bool:
            ended = self.returncode is not None
            if text in self.output:
                return True
            assert not ended, f"modal {self.arguments} ended without {text!r}:\n{self.output}"
            return False

        _until(written, within, lambda: f"modal {self.arguments} has not written {text!r}:\n{self.output}")
        return self.output

    def wait(self, *, within: float = 60.0) -> int:
        """Its exit code, once it has ended. Raises AssertionError when it has not by then."""
        _until(
            lambda: self.returncode is not None,
            within,
            lambda: f"modal {self.arguments} still runs after {within:g} s:\n{self.output}",
        )
        assert self.returncode is not None
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        """To it and what it has started, as a terminal does. Harmless when it has ended."""
        with suppress(ProcessLookupError):
            if self.returncode is None:
                os.killpg(self.pid, number)

    def interrupt(self, *, within: float = INTERRUPT_LIMIT) -> int:
        """Ctrl-C; its exit code. Harmless when it has ended.

        Again where nothing comes of it: the client misses one that comes right after it has begun to serve.
        """
        self.send(signal.SIGINT)
        with suppress(AssertionError):
            return self.wait(within=within / 2)
        self.send(signal.SIGINT)
        return self.wait(within=within)

    def close(self) -> None:
        """Interrupt it, kill it if that does not end it, and forget what it has written."""
        try:
            self.interrupt()
        finally:
            self.send(signal.SIGKILL)
            self.forget()

    def forget(self) -> None:
        """Remove what it has written."""
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _until(condition: Callable[[], bool], within: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(POLL)


class CliServer:
    """Starts commands. `environment`: what the CLI sees while it is imported, above all where its configuration is."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=dict(environment),
        )
        self._one_at_a_time = threading.Lock()
        self._news = threading.Condition()
        self._began: list[int] = []
        self._codes: dict[int, int] = {}
        self._over = False
        threading.Thread(target=self._listen, name="modal CLI", daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, pid, *rest = line.split()
            with self._news:
                if kind == "began":
                    self._codes.pop(int(pid), None)
                    self._began.append(int(pid))
                else:
                    self._codes[int(pid)] = int(rest[0])
                self._news.notify_all()
        with self._news:
            self._over = True
            self._news.notify_all()

    def code_of(self, pid: int) -> int | None:
        return self._codes.get(pid)

    def start(self, *arguments: str, cwd: Path, env: Mapping[str, str], stdin: str | None = None) -> Command:
        """Start a command, of which `env` is the whole environment and `stdin` what it can read from stdin."""
        assert self._process.stdin is not None
        folder = tempfile.TemporaryDirectory()
        read = Path(os.devnull)
        if stdin is not None:
            read = Path(folder.name, "in")
            read.write_text(stdin)
        out, err = Path(folder.name, "out"), Path(folder.name, "err")
        command = Command(self, arguments, folder)
        order = {"arguments": arguments, "cwd": str(cwd), "env": dict(env)}
        order |= {"stdin": str(read), "stdout": str(out), "stderr": str(err)}
        with self._one_at_a_time, self._news:
            print(json.dumps(order), file=self._process.stdin, flush=True)
            self._news.wait_for(lambda: self._began or self._over)
            assert self._began, "the process that runs modal's CLI has ended"
            command.pid = self._began.pop()
        return command

    def run(
        self, *arguments: str, cwd: Path, env: Mapping[str, str], stdin: str | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. Raises `subprocess.TimeoutExpired`, after killing it, when `timeout` passes."""
        command = self.start(*arguments, cwd=cwd, env=env, stdin=stdin)
        words = ["modal", *arguments]
        try:
            with self._news:
                if not self._news.wait_for(lambda: self._over or command.returncode is not None, timeout):
                    raise subprocess.TimeoutExpired(words, timeout or 0, command.stdout, command.stderr)
            assert command.returncode is not None, "the process that runs modal's CLI has ended"
            return subprocess.CompletedProcess(words, command.returncode, command.stdout, command.stderr)
        finally:
            command.send(signal.SIGKILL)
            command.forget()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


PLAIN = {"COLUMNS": "200", "NO_COLOR": "1"}
"""Output as tests read it: no colours, and wide enough that no table is wrapped."""


def without_modal() -> dict[str, str]:
    """This process's environment without any setting of `modal`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}


@functools.cache
def cli_server() -> CliServer:
    """Of this test process, without the user's own configuration of `modal`."""
    server = CliServer({**without_modal(), **PLAIN, "MODAL_CONFIG_PATH": os.devnull})
    atexit.register(server.close)
    return server
