"""What every engine is: an OpenAI-speaking HTTP server on this machine that someone else wrote, and how to run it.

The relay never sees this protocol: it sees the HTTP server at `address`. What starts containers (or `standalone`)
sees nothing else. One file per engine implements it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from infra.settings import EngineKind


PROBE_RID = "HEALTH_CHECK_answers_"
"""How the id of the smallest request begins, which SGLang takes for a health check's and counts nowhere."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where an engine listens: the platform's to say, never the engine's."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The base URL as a client on this machine would use it, without a trailing slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 (read, not bound)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class EngineError(Exception):
    """An engine could not do what it was asked. `message` is one line for the caller and for the log."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class EngineStartError(EngineError):
    """The engine cannot serve and trying again will not help: a missing or broken model file, a wrong option, a
    server process that exited, a boot that passed its limit.

    The message names the thing at fault (file, option, exit code) and holds no secret: it reaches the caller, as
    `{"error": {"message": …, "type": "server_error", "code": "engine_start_failed"}}`, and the log.
    """


class EngineSleepError(EngineError):
    """The engine cannot be put to sleep or be woken (also: this kind never can)."""


def smallest_request(model: str, *, embedding: bool) -> tuple[str, dict[str, object]]:
    """A path and a body: what `Engine.answers` asks. Its id is another each time: SGLang refuses a second request of
    one that it is still at, which would be taken for an answer."""
    if embedding:
        return "/v1/embeddings", {"model": model, "input": "a"}
    return "/v1/completions", {"model": model, "prompt": "a", "max_tokens": 1, "rid": PROBE_RID + secrets.token_hex(8)}


@runtime_checkable
class Engine(Protocol):
    """One model's server process or thread. Methods block, are called from one thread at a time, and never from an
    event loop; the exceptions are `stop` and `wait`, which any thread may call at any time.
    """

    @property
    def kind(self) -> EngineKind:
        """Whose HTTP dialect it speaks."""

    @property
    def address(self) -> Address:
        """Where it listens, or will. Given at construction, constant."""

    @property
    def can_sleep(self) -> bool:
        """Whether `sleep` and `wake` work (SGLang with its memory saver: yes; llama.cpp: no)."""

    def start(self) -> None:
        """Start serving at `address`, and return once requests are answered.

        Raises EngineStartError when it cannot serve; nothing of it is left running or listening then.
        """

    def healthy(self, timeout: float = 2.0) -> bool:
        """Whether it would answer a request now; takes at most `timeout` seconds. False before `start`, after `stop`,
        asleep, and after a crash. Never raises."""

    def answers(self, timeout: float) -> bool | None:
        """Whether what it answers to the smallest request of a caller's kind is an answer; None where it was too busy
        to say so within `timeout` seconds, or refused for being full. False where it failed. Never raises."""

    def wait(self) -> None:
        """Return once the server is gone, whether it ended by itself (a crash) or by `stop`; at once before `start`."""

    def sleep(self) -> None:
        """Give back the accelerator's memory, so that a snapshot can be taken; it does not serve until `wake`.

        Raises EngineSleepError where `can_sleep` is false or the engine refused.
        """

    def wake(self) -> None:
        """Undo `sleep`; return once requests are answered. Raises EngineSleepError when it does not come back."""

    def stop(self, *, at_once: bool = False) -> None:
        """Stop serving, and return once the process, its children and the port are gone. Idempotent; never raises;
        aborts what is running. A `start` that is waiting in another thread raises EngineStartError.

        `at_once`: without the time in which it could see to its own end (of one that serves nobody, or whose callers
        wait to be told)."""
