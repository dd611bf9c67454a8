"""What a container and its children write, on its way to the emulator's loop."""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING

from emulator.containers.ends import Output
from emulator.containers.thread.streams import NAMES

if TYPE_CHECKING:
    import asyncio

    from emulator.containers.base import OnOutput, Stream


class ContainerLog:
    """Both streams of one container. `write` and `descriptor` are called from its threads, the rest on the loop."""

    def __init__(self, task_id: str, loop: asyncio.AbstractEventLoop, on_output: OnOutput) -> None:
        self._task_id = task_id
        self._loop = loop
        self._on_output = on_output
        self._written: deque[tuple[Stream, bytes]] = deque()
        self._told = False
        self._closed = self._cut = False
        self._lock = threading.Lock()
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: decoder(errors="replace") for name in NAMES}
        self._pipes: dict[str, int] = {}
        self._outputs: list[Output] = []

    def cut(self) -> None:
        """The container was killed: what it has written until now is all."""
        self._cut = True

    def write(self, stream: Stream, data: bytes) -> None:
        if self._cut:
            return
        self._written.append((stream, data))
        if not self._told:
            self._told = True
            with contextlib.suppress(RuntimeError):  # the emulator is gone, this thread was abandoned
                self._loop.call_soon_threadsafe(self.flush, context=Context())

    def flush(self) -> None:
        """Hand on what was written until now."""
        self._told = False
        texts: dict[Stream, str] = {}
        while self._written:
            stream, data = self._written.popleft()
            texts[stream] = texts.get(stream, "") + self._decoders[stream].decode(data)
        for stream, text in texts.items():
            self._hand_on(stream, text)
        for output in self._outputs:
            output.read()

    def _hand_on(self, stream: Stream, text: str) -> None:
        if text and not self._closed:
            self._on_output(self._task_id, stream, text)

    def descriptor(self, name: str) -> int:
        """One that children may write to."""
        with self._lock:
            if self._closed:
                raise ValueError("the container has ended")
            if name not in self._pipes:
                ours, self._pipes[name] = os.pipe()
                stream: Stream = "stdout" if name == "stdout" else "stderr"
                self._loop.call_soon_threadsafe(self._read, ours, stream, context=Context())
            return self._pipes[name]

    def _read(self, descriptor: int, stream: Stream) -> None:
        self._outputs.append(Output(descriptor, lambda text: self._hand_on(stream, text)))

    def say(self, text: str) -> None:
        """A word of the emulator's own."""
        self._on_output(self._task_id, "system", text)

    def close(self) -> None:
        """The container has ended: nothing more is taken."""
        with self._lock:
            for descriptor in self._pipes.values():
                os.close(descriptor)
        self.flush()
        for output in self._outputs:
            output.close()
        for name in NAMES:
            stream: Stream = "stdout" if name == "stdout" else "stderr"
            self._hand_on(stream, self._decoders[name].decode(b"", final=True))
            self._on_output(self._task_id, stream, "")
        self._closed = True
