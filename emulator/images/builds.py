"""Building images: which of them need a Python environment of their own, and one build of each at a time."""

from __future__ import annotations

import asyncio
import os
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from emulator.clock import RealClock
from emulator.images.cache import EnvironmentCache, chosen_folder
from emulator.images.environments import BuildFailed, Environments
from emulator.images.installers import Tools, find_tools
from emulator.images.pythons import Interpreter, find, own
from emulator.images.requirements import Undecidable, asked_for, unmet
from emulator.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from emulator.containers.base import OwnPython
    from emulator.images.commands import Install
    from emulator.state import ImageRecord
    from emulator.storage.content import ContentStore


@dataclass(eq=False)
class Build:
    """One build of one image: what it says, and how it ended."""

    image_id: str
    pieces: list[str] = field(default_factory=list)
    """Of its log, as they came."""
    done: bool = False
    failed: bool = False
    why: str = ""
    """Of what the log does not tell."""
    changed: Signal = field(default_factory=Signal)
    task: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        self.pieces.append(text)
        self.changed.notify()

    def end(self, *, failed: bool = False, why: str = "") -> None:
        self.done, self.failed, self.why = True, failed, why
        self.changed.notify()


@dataclass(frozen=True)
class Plan:
    """What an image needs."""

    interpreter: Interpreter
    installs: tuple[Install, ...]
    unmet: tuple[str, ...] = ()
    """What the emulator's own environment does not have of it."""


class ImageBuilder:
    """The images of one emulator."""

    def __init__(
        self,
        *,
        environments: Environments,
        content: ContentStore,
        tools: Tools,
        say: Callable[[str], None],
        in_process: bool = False,
    ) -> None:
        self._environments = environments
        self._content = content
        self._tools = tools
        self._say = say
        self._in_process = in_process
        self._builds: dict[str, Build] = {}
        self._pythons: dict[str, OwnPython | None] = {}
        self._interpreters: dict[str, Interpreter] = {}
        self._plans: dict[tuple[str, tuple[Install, ...]], Plan | None] = {}
        self._said: set[str] = set()

    def build_of(self, image_id: str) -> Build | None:
        """The last build of an image, if there was something to build."""
        return self._builds.get(image_id)

    async def pending(self, image: ImageRecord, *, force: bool = False) -> bool:
        """Whether anything has to be built for an image."""
        build = self._builds.get(image.image_id)
        if (build is not None and not build.done) or image.unfinished:
            return True
        plan = await asyncio.to_thread(self._plan, image)
        if plan is None:
            self._pythons[image.image_id] = None
            return False
        if force and image.installs:
            return True
        if image.image_id in self._pythons:
            return False
        found = await asyncio.to_thread(self._environments.find, plan.interpreter, plan.installs)
        if found is None or not plan.interpreter.is_own:
            return True
        self._pythons[image.image_id] = await self._environments.python_of(found, plan.interpreter, _unsaid)
        return False

    def begin(
        self,
        image: ImageRecord,
        *,
        steps: Sequence[str] = (),
        last: Callable[[Build], Awaitable[None]] | None = None,
        secrets: Mapping[str, str] | None = None,
        force: bool = False,
    ) -> Build:
        """Build an image, unless that is under way.

        `steps` are the layer's own commands, to be shown, and `last` is what runs in a container of the rest.
        """
        build = self._builds.get(image.image_id)
        if build is None or build.done:
            build = self._builds[image.image_id] = Build(image.image_id)
            build.task = asyncio.create_task(self._build(build, image, steps, last, secrets or {}, force=force))
        return build

    async def python_of(self, image: ImageRecord) -> OwnPython | None:
        """The environment for a container of an image; None: the emulator's own. Builds what is not there any more.

        Raises `BuildFailed`.
        """
        if image.unfinished:
            raise BuildFailed("its build was broken off: deploy the app again")
        if image.image_id not in self._pythons and await self.pending(image):
            build = self.begin(image)
            assert build.task is not None
            await asyncio.shield(build.task)
            if build.failed:
                raise BuildFailed(build.why or "".join(build.pieces).strip())
        return self._pythons[image.image_id]

    def python_version(self, image: ImageRecord) -> str:
        """Such as "3.11.7"."""
        return self._interpreters.get(image.python, own()).version

    async def close(self) -> None:
        """End what is being built."""
        tasks = [build.task for build in self._builds.values() if build.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._environments.close()

    async def _build(
        self,
        build: Build,
        image: ImageRecord,
        steps: Sequence[str],
        last: Callable[[Build], Awaitable[None]] | None,
        secrets: Mapping[str, str],
        *,
        force: bool,
    ) -> None:
        clock = RealClock()
        began = clock.monotonic()
        build.write(f"Building image {image.image_id}\n\n")
        for number, step in enumerate(steps):
            build.write(f"=> Step {number}: {step}\n")
        try:
            plan = await asyncio.to_thread(self._plan, image)
            if plan is None:
                self._pythons[image.image_id] = None
            else:
                await self._environment(build, image, plan, secrets, force=force)
            if last is not None:
                await last(build)
        except BuildFailed as error:
            build.write(f"\nImage build failed: {error}\n")
            build.end(failed=True, why=error.told)
        except OSError as error:
            build.end(failed=True, why=f"{type(error).__name__}: {error}")
        except asyncio.CancelledError:
            build.end(failed=True, why="The emulator was stopped")
            raise
        except Exception:
            build.end(failed=True, why=traceback.format_exc())
        else:
            build.write(f"\nBuilt image {image.image_id} in {clock.monotonic() - began:.2f}s\n")
            build.end()

    async def _environment(
        self, build: Build, image: ImageRecord, plan: Plan, secrets: Mapping[str, str], *, force: bool
    ) -> None:
        if plan.unmet:
            build.write(f"\nNot in the emulator's own environment: {', '.join(plan.unmet)}\n")
        environment = await self._environments.need(
            plan.interpreter, plan.installs, build.write, secrets=secrets, force=force
        )
        self._pythons[image.image_id] = await self._environments.python_of(environment, plan.interpreter, build.write)

    def _plan(self, image: ImageRecord) -> Plan | None:
        """None: the emulator's own environment is what the image asks for."""
        asked = (image.python, image.installs)
        if asked not in self._plans:
            plan = self._planned(image)
            if plan is not None and self._in_process:
                what = ", ".join(plan.unmet) or f"Python {image.python}"
                self.say_once(f"containers that are threads have this process's Python and packages, not {what}")
                plan = None
            self._plans[asked] = plan
        return self._plans[asked]

    def _planned(self, image: ImageRecord) -> Plan | None:
        interpreter = self._interpreter(image.python)
        if not interpreter.is_own:
            return Plan(interpreter, image.installs)
        missing: list[str] = []
        for install in image.installs:
            try:
                missing += unmet(asked_for(install, self._reader(install)))
            except Undecidable as what:
                missing.append(str(what))
        return Plan(interpreter, image.installs, tuple(missing)) if missing else None

    def _reader(self, install: Install) -> Callable[[str], str]:
        at = dict(install.files)

        def read(path: str) -> str:
            if path not in at:
                raise FileNotFoundError(path)
            return self._content.path(at[path]).read_text(encoding="utf-8")

        return read

    def _interpreter(self, series: str) -> Interpreter:
        if series not in self._interpreters:
            found = find(series, uv=self._tools.uv)
            if found is None:
                self.say_once(f"Python {series} is not on this machine: images that ask for it get {own().version}")
            self._interpreters[series] = found or own()
        return self._interpreters[series]

    def say_once(self, text: str) -> None:
        """Tell the deployer what differs, the first time."""
        if text not in self._said:
            self._said.add(text)
            self._say(text)


def image_builder(
    *,
    state_directory: Path | None,
    content: ContentStore,
    scratch: Path,
    say: Callable[[str], None],
    in_process: bool = False,
) -> ImageBuilder:
    """The builder of an emulator with that state (None: one that keeps none), on this machine.

    `in_process`: containers have this process's environment whatever their image asks for, which is said.
    """
    tools = find_tools()
    cache = EnvironmentCache(chosen_folder(os.environ, state_directory))
    environments = Environments(cache, content, tools, scratch)
    return ImageBuilder(environments=environments, content=content, tools=tools, say=say, in_process=in_process)


def _unsaid(_text: str) -> None:
    """There is nobody to read it."""
