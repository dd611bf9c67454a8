"""The real `modal` CLI, imported once: importing it is most of what a command costs.

One process has `modal` imported and forks for each command; the fork takes the command's environment and directory and
runs the CLI's own `main`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

SERVER = """
import atexit, json, os, sys
import modal.cli.entry_point
import modal.__main__

for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["env"])
        for name, number in (("/dev/null", 0), (order["stdout"], 1), (order["stderr"], 2)):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        sys.stdin = open(0, closefd=False)
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
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class CliServer:
    """Runs one command after another."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MODAL_")}
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**environment, "MODAL_CONFIG_PATH": os.devnull, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        self._one_at_a_time = threading.Lock()

    def run(self, *arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder, self._one_at_a_time:
            out, err = Path(folder, "out"), Path(folder, "err")
            order = {"arguments": arguments, "cwd": str(cwd), "env": env, "stdout": str(out), "stderr": str(err)}
            print(json.dumps(order), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
            assert answer, "the process that runs modal's CLI has ended"
            return subprocess.CompletedProcess(["modal", *arguments], int(answer), out.read_text(), err.read_text())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@functools.cache
def cli_server() -> CliServer:
    server = CliServer()
    atexit.register(server.close)
    return server
