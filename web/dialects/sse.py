"""Server-sent events as engines send them: bytes in pieces of any size, to the payloads of whole events."""

from __future__ import annotations

from web.errors import EngineBroken

LONGEST_EVENT = 8 * 1024 * 1024


class EventReader:
    """Feed it what was read; it keeps what is not yet a whole event."""

    def __init__(self) -> None:
        self._rest = b""
        self.empty = True

    def split(self, data: bytes) -> list[bytes]:
        """Each event that is now whole, without the empty line (LF) that ends it. Raises EngineBroken when one never
        ends."""
        if self._rest:
            data = self._rest + data
        *events, self._rest = data.split(b"\n\n")
        self.empty = not self._rest
        if len(self._rest) > LONGEST_EVENT:
            raise EngineBroken("The engine sent an event without an end.", code="engine_protocol")
        return events


def payload_of(event: bytes) -> bytes | None:
    """The `data` of an event of one `data:` line: what SGLang and llama.cpp send. llama.cpp names its errors by a field
    of their own, `error:`, whose value is wrapped here as OpenAI's error event. None: it holds nothing."""
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
