"""Server-sent events as engines send them: bytes in pieces of any size, to the payloads of whole events."""

from __future__ import annotations

from web.errors import EngineBroken

LONGEST_EVENT = 8 * 1024 * 1024


class EventReader:
    """Feed it what was read; it keeps what is not yet a whole event."""

    def __init__(self) -> None:
        self._rest = b""
        self.empty = True

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of each event that is now whole; comments are dropped. Raises EngineBroken when one never ends.

        Events of one `data:` line that end in an empty line (LF): what SGLang and llama.cpp send. llama.cpp names
        its errors by a field of their own, `error:`, whose value is wrapped here as OpenAI's error event.
        """
        if self._rest:
            data = self._rest + data
        *events, self._rest = data.split(b"\n\n")
        self.empty = not self._rest
        if len(self._rest) > LONGEST_EVENT:
            raise EngineBroken("The engine sent an event without an end.", code="engine_protocol")
        return [payload for event in events if (payload := _payload(event)) is not None]


def _payload(event: bytes) -> bytes | None:
    if event.startswith(b"data: "):
        return event[6:]
    if event.startswith(b"data:"):
        return event[5:]
    if event.startswith(b"error:"):
        return b'{"error":' + event[6:] + b"}"
    return None


def comment(text: str) -> bytes:
    """A comment: the one keep-alive that no OpenAI client stumbles over."""
    return f": {text}\n\n".encode()
