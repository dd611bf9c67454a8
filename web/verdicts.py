"""What an engine's HTTP answer means: who said it, the engine or the platform before it, and what to do. Pure.

The platform's words are plain text, an engine's are a JSON object: that, and not the status, tells the platform's 503
(no container runs; the request counts as demand) from the engine's (its queue is full), and the platform's 429 (every
container is at its `max_concurrency`) from anything that a caller did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import orjson

from web.dialects.pieces import engine_message, refusal
from web.errors import EngineBroken, EngineFailed, EngineOverloaded, EngineUnreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from web.errors import ServiceError

STATE_HEADER = "x-engine-state"
"""`failed` on the answers of a container whose engine cannot start."""


@dataclass(frozen=True)
class Retry:
    """Ask again. `booting`: there is no engine yet. `busy`: every container is full; ask with another affinity, or the
    same one answers again. `lost`: a container was there and went away before it answered."""

    reason: Literal["booting", "busy", "lost"]


def judge(status: int, headers: Mapping[str, str], body: bytes, *, prompt: str | None = None) -> Retry | ServiceError:
    """What an answer other than 200 means. `headers` finds names in any case. `prompt`: the caller's name for the field
    that holds the prompt."""
    said = _json(body)
    message, told = engine_message(said)
    if headers.get(STATE_HEADER) == "failed":
        return EngineFailed(message or "the engine did not start")
    if message is None:
        return _platform(status, body)
    if status == 503 and "loading model" in message.lower():
        return Retry("booting")
    if status in (429, 503):
        return EngineOverloaded()
    if status == 401:
        return EngineUnreachable("The engine refused this service's key.")
    if status in (400, 413, 422) or (told is not None and told in (400, 413, 422)):
        return refusal(message, prompt=prompt)
    return EngineBroken(message, code="engine_error")


def retry_delay(waited: float) -> float:
    """Seconds to the next attempt, `waited` seconds after the first: a tenth of the wait, so that no boot is found
    much later than it ends, between 50 ms and 1 s."""
    return min(1.0, max(0.05, waited / 10))


def _json(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _platform(status: int, body: bytes) -> Retry | ServiceError:
    match status:
        case 503:
            return Retry("booting")
        case 429:
            return Retry("busy")
        case 502 if b"refused" in body:
            return Retry("booting")  # the request did not reach an engine: it cannot be what ended one
        case 408 | 502 | 504:
            return Retry("lost")
        case 401 | 403:
            return EngineUnreachable("The platform refused this service's proxy credentials for the model.")
        case 404:
            return EngineUnreachable("The model's server is not deployed.")
    said = body[:100].decode(errors="replace").partition("\n")[0]
    return EngineBroken(f"The engine answered {status}: {said}", code="engine_protocol")
