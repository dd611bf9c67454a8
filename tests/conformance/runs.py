"""The clients of the suite, and how each is run: its checks, all at once, in a process of its own environment."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance import environments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.conformance.environments import Environment
    from tests.conformance.targets import Target

HERE = Path(__file__).parent
RUN_SECONDS = 480


@dataclass(frozen=True, kw_only=True)
class Client:
    """`package`: whose version is told. `behind_the_bridge`: it is run through the emulator too; the others' way there
    is one of those'."""

    name: str
    package: str
    scripts: tuple[str, ...]
    environment: Callable[[], Environment]
    behind_the_bridge: bool = False

    def checks(self) -> list[str]:
        """The names of its checks, read from its scripts without running them."""
        return [name for script in self.scripts for name in _checks_of(script)]


def _installed(name: str) -> Callable[[], Environment]:
    return functools.partial(environments.python, name)


CLIENTS = [
    Client(
        name="openai-python", package="openai",
        scripts=("openai_python.py", "openai_python_errors.py", "openai_python_newest.py"),
        environment=environments.own, behind_the_bridge=True,
    ),
    Client(
        name="websockets", package="websockets", scripts=("websocket_python.py",), environment=environments.own,
        behind_the_bridge=True,
    ),
    Client(
        name="anthropic", package="anthropic", scripts=("anthropic_python.py",), environment=environments.own,
        behind_the_bridge=True,
    ),
    Client(
        name="openai-node", package="openai", scripts=("openai_node.mjs",), environment=environments.node,
        behind_the_bridge=True,
    ),
    Client(
        name="openai-python-oldest", package="openai", scripts=("openai_python.py", "openai_python_errors.py"),
        environment=_installed("openai-oldest"),
    ),
    Client(
        name="langchain", package="langchain-openai", scripts=("langchain_client.py",),
        environment=_installed("langchain"),
    ),
    Client(name="litellm", package="litellm", scripts=("litellm_client.py",), environment=_installed("litellm")),
    Client(name="llm", package="llm", scripts=("llm_cli.py",), environment=_installed("llm")),
]  # fmt: skip


@dataclass(kw_only=True)
class Run:
    """How a client's checks went. `broken`: why none could be run, or not all. `installed`: false where this
    machine has nothing to run it on."""

    client: Client
    target: str
    version: str = ""
    broken: str = ""
    installed: bool = True
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


def run(client: Client, target: Target, names: Iterable[str]) -> Run:
    """Run these checks of `client` against `target`. Whatever goes wrong is told in the result."""
    outcome = Run(client=client, target=target.name)
    try:
        environment = client.environment()
    except environments.CannotInstall as error:
        outcome.broken = str(error)
        outcome.installed = not isinstance(error, environments.NotOnThisMachine)
        return outcome
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results"
        results.touch()
        done = _execute(client, environment, target, names, results)
        for line in results.read_text(encoding="utf-8").splitlines():
            told = json.loads(line)
            if "check" in told:
                outcome.results[told["check"]] = told
            else:
                outcome.version = told["version"]
    outcome.broken = done
    return outcome


def _execute(client: Client, environment: Environment, target: Target, names: Iterable[str], results: Path) -> str:
    """Run the client's process; its last words where it failed."""
    scripts = [Path(script).stem if script.endswith(".py") else script for script in client.scripts]
    harness = "harness.py" if client.scripts[0].endswith(".py") else "harness.mjs"
    command = [
        str(environment.program), harness, "--results", str(results), "--package", client.package,
        "--only", ",".join(names), *scripts,
    ]  # fmt: skip
    variables = {
        name: value for name, value in os.environ.items() if "api_key" not in name.lower() and name != "PYTHONPATH"
    }
    variables |= {"CONFORMANCE_TARGET": target.for_client(), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=environment.folder, env=variables, capture_output=True, text=True, timeout=RUN_SECONDS,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return f"the client's process took over {RUN_SECONDS} s: {str(late.stderr or '')[-1000:]}"
    return "" if done.returncode == 0 else f"the client's process ended with {done.returncode}: {done.stderr[-2000:]}"


def _checks_of(script: str) -> list[str]:
    if script.endswith(".mjs"):
        text = (HERE / "node" / script).read_text(encoding="utf-8")
        return re.findall(r'^check\(\s*"(\w+)"', text, re.MULTILINE)
    tree = ast.parse((HERE / "clients" / script).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return [one.name for one in functions if any(ast.unparse(mark).startswith("check(") for mark in one.decorator_list)]
