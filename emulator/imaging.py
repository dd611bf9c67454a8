"""Images put together: their environments, their build steps, and the RPCs about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.images.builds import image_builder
from emulator.images.steps import BuildSteps
from emulator.protocol.images import ImageHandlers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.containers.base import ContainerRuntime
    from emulator.launcher import ContainerLauncher
    from emulator.options import Options
    from emulator.scheduler.calls import Calls
    from emulator.scheduler.scheduler import Scheduler
    from emulator.state import State
    from emulator.storage.content import ContentStore


class Imaging:
    """`folder` goes with the emulator. `handlers` connects it with what runs build steps, before anything is built."""

    def __init__(
        self, state: State, content: ContentStore, options: Options, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._state = state
        self._content = content
        self._options = options
        self._builder = image_builder(
            state_directory=options.state_directory,
            content=content,
            scratch=folder / "builds",
            say=say,
            in_process=options.containers == "thread",
        )
        self._steps: BuildSteps | None = None
        self.changes = folder / "changes"
        """Where containers of build steps leave their files."""
        self.python_of = self._builder.python_of
        self.close = self._builder.close

    def handlers(
        self, scheduler: Scheduler, calls: Calls, launcher: ContainerLauncher, runtime: ContainerRuntime
    ) -> ImageHandlers:
        steps = self._steps = BuildSteps(self._state, scheduler, calls, self._content, launcher, runtime, self.changes)
        options = self._options
        return ImageHandlers(
            self._state, options.clock, self._content, self._builder, steps, run_commands=options.run_commands
        )

    def hears(self, function_id: str, text: str) -> bool:
        """Take what a container writes, if it is a build's: its log is the build's."""
        return self._steps is not None and self._steps.hear(function_id, text)
