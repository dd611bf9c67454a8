"""Building the Python environments that images ask for, each once, the one on top of the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.clock import RealClock
from emulator.containers.base import OwnPython
from emulator.containers.folder import remove
from emulator.containers.rootplan import environment_parts
from emulator.images.cache import Entry
from emulator.images.client import CLIENT, client_version, linked_client
from emulator.images.commands import Install, labelled, names_path, put_in
from emulator.images.installers import Tools, install_commands, installing_environment, venv_command
from emulator.images.pythons import Interpreter, own
from emulator.images.running import run_command
from emulator.images.tree import clone, let_client_in
from emulator.storage.private import private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.images.cache import EnvironmentCache
    from emulator.storage.content import ContentStore

Write = Callable[[str], None]

_LAYOUT = 1
"""Of what is in the cache: another number is another cache."""
_ANOTHER_EMULATOR = 0.1
"""Seconds between looks at whether another emulator has finished the same."""


class BuildFailed(Exception):
    """An image could not be built; its log says why. `told`: what the client is to say of it beside the log."""

    def __init__(self, text: str, *, told: str = "") -> None:
        super().__init__(text)
        self.told = told


@dataclass(eq=False)
class _Job:
    """One environment that is being built; whoever wants it too listens."""

    text: str = ""
    listeners: list[Write] = field(default_factory=list)
    task: asyncio.Task[Path] | None = None

    def write(self, text: str) -> None:
        self.text += text
        for listener in self.listeners:
            listener(text)


def key_of(interpreter: Interpreter, installs: Sequence[Install]) -> str:
    """What an environment is known by: the Python, and everything that was installed, in its order."""
    about = [_LAYOUT, platform.machine(), str(interpreter.prefix), interpreter.version, *map(asdict, installs)]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


class Environments:
    """The environments of one emulator's images."""

    def __init__(self, cache: EnvironmentCache, content: ContentStore, tools: Tools, scratch: Path) -> None:
        """`scratch`: a folder that goes with the emulator."""
        self._scratch = scratch
        self._cache = cache
        self._content = content
        self._tools = tools
        self._jobs: dict[str, _Job] = {}

    def find(self, interpreter: Interpreter, installs: Sequence[Install]) -> Path | None:
        """The environment, if it has been built. Blocks."""
        return self._cache.find(key_of(interpreter, installs))

    async def need(
        self,
        interpreter: Interpreter,
        installs: Sequence[Install],
        write: Write,
        *,
        secrets: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> Path:
        """The environment, built if it is not there: `force` builds its last install again whatever is there.

        Raises `BuildFailed` and `OSError`. Who else wants it meanwhile waits for the same build.
        """
        key = key_of(interpreter, installs)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Job(listeners=[write])
            work = self._build_once(key, interpreter, installs, job.write, dict(secrets or {}), force=force)
            job.task = asyncio.create_task(work)
            job.task.add_done_callback(lambda _: self._jobs.pop(key, None))
        else:
            write(job.text)
            job.listeners.append(write)
        assert job.task is not None
        try:
            return await asyncio.shield(job.task)
        finally:
            if write in job.listeners:
                job.listeners.remove(write)

    async def close(self) -> None:
        """End every build."""
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._cache.close)

    async def python_of(self, environment: Path, interpreter: Interpreter, write: Write) -> OwnPython:
        """What a container is told of an environment. Raises `BuildFailed` where the client can not be got there."""
        client = await self._client(interpreter, write)
        shown = [environment, client]
        if interpreter.prefix != own().prefix:
            shown += environment_parts(interpreter.prefix)
        return OwnPython(environment / "bin/python", client, tuple(shown))

    async def _build_once(
        self,
        key: str,
        interpreter: Interpreter,
        installs: Sequence[Install],
        write: Write,
        secrets: Mapping[str, str],
        *,
        force: bool,
    ) -> Path:
        if not force and (found := await asyncio.to_thread(self._cache.find, key)) is not None:
            return found
        below: Path | None = None
        if len(installs) > 1 and installs[-1].tool != "sync":
            below = await self.need(interpreter, installs[:-1], write, secrets=secrets)
        clock, said = RealClock(), False
        while (alone := await asyncio.to_thread(self._cache.try_key, key)) is None:
            if not said:
                write("Another emulator builds the same: waiting for it.\n")
            said = True
            await clock.sleep(_ANOTHER_EMULATOR)
        try:
            if (not force or said) and (found := await asyncio.to_thread(self._cache.find, key)) is not None:
                return found
            return await self._build(key, interpreter, installs, below, write, secrets)
        finally:
            os.close(alone)

    async def _build(
        self,
        key: str,
        interpreter: Interpreter,
        installs: Sequence[Install],
        below: Path | None,
        write: Write,
        secrets: Mapping[str, str],
    ) -> Path:
        await asyncio.to_thread(self._cache.sweep)
        environment = await asyncio.to_thread(self._cache.new_tree, key)
        tree = environment.parent.name
        try:
            if below is not None:
                await asyncio.to_thread(clone, below, environment)
            else:
                await self._run(venv_command(self._tools, interpreter.path, environment), environment, {}, write)
                await asyncio.to_thread(let_client_in, environment)
            if installs:
                await self._install(installs[-1], environment, write, secrets)
                await asyncio.to_thread(let_client_in, environment)  # `uv sync` may have made it anew
            entry = Entry(key, tree, interpreter.version, tuple(one.command for one in installs), RealClock().time())
            await asyncio.to_thread(self._cache.publish, entry)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(self._cache.give_up, tree))
            raise
        return environment

    async def _install(self, install: Install, environment: Path, write: Write, secrets: Mapping[str, str]) -> None:
        mirror = Path(await asyncio.to_thread(tempfile.mkdtemp, dir=private(self._scratch)))
        try:
            await asyncio.to_thread(self._lay_out, install, mirror)
            given = {**dict(install.variables), **secrets}
            words = [_as_here(word, option, mirror, given) for word, option in labelled(install.words)]
            try:
                first, *others = install_commands(install, words, self._tools, environment)
            except LookupError as error:
                raise BuildFailed(str(error)) from error
            try:
                await self._run(first, environment, given, write, cwd=mirror)
            except BuildFailed:
                if not others:
                    raise
                write("uv could not; with pip:\n")
                await self._run(others[0], environment, given, write, cwd=mirror)
        finally:
            await asyncio.to_thread(remove, mirror)

    def _lay_out(self, install: Install, mirror: Path) -> None:
        """The image's files that an install reads, at the same paths below `mirror`."""
        for path, sha256 in install.files:
            target = mirror / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._content.path(sha256), target)

    async def _run(
        self,
        command: Sequence[str],
        environment: Path,
        given: Mapping[str, str],
        write: Write,
        *,
        cwd: Path | None = None,
    ) -> None:
        variables = installing_environment(os.environ, given, environment)
        code = await run_command(command, environment=variables, cwd=cwd or environment.parent, write=write)
        if code:
            raise BuildFailed(f"exit status {code}")

    async def _client(self, interpreter: Interpreter, write: Write) -> Path:
        clients = self._cache.folder / "clients"
        if interpreter.is_own:
            return await asyncio.to_thread(linked_client, clients)
        # The emulator's own packages are another Python's: the same client is installed for this one, once.
        wanted = Install(
            "pip", (f"{CLIENT}=={client_version()}",), f"python -m pip install {CLIENT}=={client_version()}"
        )
        key = key_of(interpreter, [wanted])
        if await asyncio.to_thread(self._cache.find, key) is None:
            write(f"The client for Python {interpreter.series}:\n")
        environment = await self.need(interpreter, [wanted], write)
        return next(environment.glob("lib/python3*/site-packages"))


def _as_here(word: str, option: str, mirror: Path, variables: Mapping[str, str]) -> str:
    """A word with its path made one of this machine, and secrets put in, as the shell would."""
    word = put_in(word, variables)
    if names_path(word, option):
        scheme = "file://" if word.startswith("file://") else ""
        word = f"{scheme}{mirror}{word.removeprefix(scheme)}"
    return word
