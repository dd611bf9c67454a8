"""Ephemeral objects are there while their owner says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.clock import Clock

SILENCE = 900.0
"""Seconds without a heartbeat after which an ephemeral object is gone: the client sends one every 300, and none to say
that it has done (`EPHEMERAL_OBJECT_HEARTBEAT_SLEEP`)."""


class Heartbeats:
    """When the owner of each ephemeral object was last heard of."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock.outside
        self._heard: dict[str, float] = {}

    def begin(self, object_id: str) -> None:
        self._heard[object_id] = self._clock.monotonic()

    def beat(self, object_id: str) -> None:
        """Of an object that is not ephemeral it changes nothing."""
        if object_id in self._heard:
            self.begin(object_id)

    def end(self, object_id: str) -> None:
        self._heard.pop(object_id, None)

    def lapsed(self) -> list[str]:
        """The objects whose owner has been silent for too long."""
        limit = self._clock.monotonic() - SILENCE
        return [object_id for object_id, heard in self._heard.items() if heard <= limit]
