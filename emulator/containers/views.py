"""The emulator's end of the Volumes that a container is shown: taken away, and shown again."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Any

from emulator.containers.base import OpenFilesError

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.containers.base import Layers

FOLDER = "/__modal/volumes"
"""Where Modal mounts Volumes in a container: their mount paths are links to `<this>/<volume id>`."""


def described(volume_id: str, layers: Layers, *, read_only: bool, direct: str = "") -> dict[str, Any]:
    """A Volume as `Launch.views` has it."""
    folders = {"lower": layers.lower, "upper": layers.upper, "work": layers.work, "at": layers.at}
    return {
        **{name: str(folder) for name, folder in folders.items()},
        "path": f"{FOLDER}/{volume_id}",
        "read_only": read_only,
        "direct": direct,
    }


class ShownViews:
    """Those of one container, whose init `tell` reaches."""

    def __init__(self, tell: Callable[[dict[str, object]], None]) -> None:
        self._tell = tell
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._ended = False
        self.shared = ""
        """Why the container sees Volumes as they are, if so."""

    async def hide(self, volume_id: str) -> None:
        """Take a Volume away. Raises `OpenFilesError`, and `ConnectionError` when the container has ended."""
        answer = await self._ask({"hide": f"{FOLDER}/{volume_id}"})
        if answer["errno"] == errno.EBUSY:
            raise OpenFilesError("there are open files preventing the operation")
        _raise_for(answer)

    async def show(self, volume_id: str, layers: Layers, *, read_only: bool) -> None:
        """Show it again. Raises `OSError`."""
        _raise_for(await self._ask({"show": described(volume_id, layers, read_only=read_only)}))

    async def _ask(self, body: dict[str, object]) -> dict[str, Any]:
        if self._ended:
            raise ConnectionError("the container has ended")
        self._count += 1
        answer = self._asked[self._count] = asyncio.get_running_loop().create_future()
        self._tell({"view": self._count, **body})
        return await asyncio.shield(answer)

    def hear(self, body: dict[str, Any]) -> None:
        """What init answers."""
        answer = self._asked.pop(body["view"])
        if not answer.done():
            answer.set_result(body)

    def end(self) -> None:
        """The container has ended."""
        self._ended = True
        for answer in self._asked.values():
            answer.set_exception(ConnectionError("the container has ended"))
            answer.exception()
        self._asked.clear()


def _raise_for(answer: dict[str, Any]) -> None:
    if answer["errno"]:
        raise OSError(answer["errno"], answer["error"] or os.strerror(answer["errno"]))
