"""Volumes as containers see them: each container a snapshot, with what it has changed on top until that is committed.

As Modal's guide has it: what a container writes is seen by others after its commit (its own, one of those in the
background, or the one at its end) and their reload; of a file that several have changed, the last commit stays; and a
container that is killed takes along what it has not committed (https://modal.com/docs/guide/volumes).
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from emulator.containers.base import Layers
from emulator.containers.folder import remove
from emulator.storage.changes import Changes, apply, stage
from emulator.storage.tree import discard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from emulator.clock import Clock
    from emulator.containers.base import Shown
    from emulator.storage.changes import Change
    from emulator.storage.snapshots import Snapshot
    from emulator.storage.volumes import VolumeFiles


BACKGROUND_SECONDS = 5.0
"""Between commits in the background: "every few seconds"."""
SHARE = 10
"""Such commits take at most one part in so many of the time: a file of gigabytes that grows is copied each time."""


class View:
    """One Volume in one container. `sub_path`: the part of it."""

    def __init__(self, volume_id: str, files: VolumeFiles, *, sub_path: str, read_only: bool) -> None:
        self.volume_id = volume_id
        self._files = files
        self._sub_path = sub_path
        self._read_only = read_only
        self._turn = asyncio.Lock()
        """Held while it is taken away and shown again."""
        self._committing = threading.Lock()
        self._folder: Path | None = None
        self._snapshot: Snapshot | None = None
        self._layers: Layers | None = None
        self._changes: Changes | None = None
        self._container: Shown | None = None
        self._closed = False

    def open(self) -> Layers:
        with self._files.lock:
            part = self._files.part(self._sub_path).relative_to(self._files.root.resolve())
            snapshot = self._files.snapshots.take()
        folder = self._files.temporary()
        try:
            layers = Layers(snapshot.folder / part, *(folder / name for name in ("upper", "work", "at")))
            for layer in (layers.upper, layers.work, layers.at):
                layer.mkdir(parents=True)
            layers.upper.chmod(layers.lower.stat().st_mode & 0o7777)  # which is that of the mount
        except BaseException:
            self._give_back(snapshot, folder)
            raise
        self._snapshot, self._folder, self._layers = snapshot, folder, layers
        self._changes = Changes(layers.lower, layers.upper, folder / "now")
        return layers

    def shown(self, container: Shown) -> None:
        self._container = container

    def commit(self) -> None:
        """Have the Volume have what the container has changed: all of it, or, where it does not fit, nothing. Blocks.

        Raises `OSError`.
        """
        if self._read_only:
            return
        if self._container is None:  # it sees the Volume itself, and may have changed it
            self._files.snapshots.forget()
            return
        with self._committing:
            if self._changes is None:
                return
            changes = self._changes.find()
            if not changes:
                return
            staged = stage(changes, self._files.temporary)
            try:
                self._apply(changes, staged)
            finally:
                for whole in staged.values():
                    discard(whole)
            self._changes.took(changes)

    def _apply(self, changes: list[Change], staged: dict[str, Path]) -> None:
        with self._files.lock:
            if self._files.deleted:
                return
            try:
                for path in apply(changes, staged, self._files.part(self._sub_path)):
                    self._files.snapshots.changed(path)
            except BaseException:
                self._files.snapshots.forget()  # who knows what has changed
                raise

    async def reload(self) -> None:
        """Show the container the Volume as it is now, after a commit of what it has changed.

        Raises `OpenFilesError`, `OSError`, and `ConnectionError` when the container has ended.
        """
        if self._container is None:
            return
        async with self._turn:
            if self._layers is not None:  # else it could not be shown again the last time
                await self._container.hide(self.volume_id)
            try:
                await asyncio.to_thread(self._renew)
            finally:
                if self._layers is not None:
                    await self._container.show(self.volume_id, self._layers, read_only=self._read_only)

    def _renew(self) -> None:
        self.commit()
        with self._committing:
            if self._closed:
                return
            # First, so that a snapshot which nobody else uses is brought up to date, and no other is made.
            self._give_back(self._snapshot, self._folder)
            self._snapshot = self._folder = self._layers = self._changes = None
            self.open()

    def close(self) -> None:
        """The container has ended. What it has not committed is lost. Blocks."""
        with self._committing:
            self._closed = True
            self._give_back(self._snapshot, self._folder)
            self._snapshot = self._folder = self._layers = self._changes = None

    def _give_back(self, snapshot: Snapshot | None, folder: Path | None) -> None:
        if snapshot is not None:
            self._files.snapshots.give_back(snapshot)
        if folder is not None:
            remove(folder)


class Views:
    """Those of every container, by task and Volume. `say` tells whose commits fail."""

    def __init__(self, clock: Clock, say: Callable[[str], None]) -> None:
        self._clock = clock
        self._say = say
        self._views: dict[str, dict[str, View]] = {}
        self._commits: dict[str, asyncio.Task[None]] = {}

    def make(self, task_id: str, volume_id: str, files: VolumeFiles, *, sub_path: str, read_only: bool) -> View:
        view = View(volume_id, files, sub_path=sub_path, read_only=read_only)
        self._views.setdefault(task_id, {})[volume_id] = view
        if task_id not in self._commits:
            self._commits[task_id] = asyncio.create_task(self._keep_committing(task_id))
        return view

    async def reload(self, task_id: str) -> None:
        """All of one container's. Raises as `View.reload`."""
        for view in self._views.get(task_id, {}).values():
            await view.reload()

    def get(self, task_id: str, volume_id: str) -> View | None:
        return self._views.get(task_id, {}).get(volume_id)

    async def _keep_committing(self, task_id: str) -> None:
        """Commit in the background what a container has changed, for as long as it is there."""
        pause = BACKGROUND_SECONDS
        while True:
            await self._clock.sleep(pause)
            begun = self._clock.monotonic()
            for view in self._views[task_id].values():
                try:
                    await asyncio.to_thread(view.commit)
                except OSError as error:
                    self._say(f"a background commit of container {task_id} failed: {error}")
            pause = max(BACKGROUND_SECONDS, SHARE * (self._clock.monotonic() - begun))

    async def close(self, task_id: str, *, commit: bool = False) -> None:
        """The container has ended: `commit` what it has changed, or have that lost. Harmless when repeated."""
        if (commits := self._commits.pop(task_id, None)) is not None:
            commits.cancel()
            await asyncio.wait([commits])
        for view in self._views.pop(task_id, {}).values():
            try:
                if commit:
                    await asyncio.to_thread(view.commit)
            except OSError as error:
                self._say(f"the last commit of container {task_id} failed: {error}")
            finally:
                await asyncio.to_thread(view.close)
