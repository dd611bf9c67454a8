"""What the machine of `session_machine` runs in, and what may fail there."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hypothesis import strategies as st

from web.dialects.pieces import Piece
from web.errors import EngineOverloaded

if TYPE_CHECKING:
    from tests.chaos.session_model import ModelSession
    from tests.web.doubles import HandClock
    from web.conversations import Turn
    from web.dialects.request import GenerationRequest
    from web.sessions import SessionStore


OWNER = "key:1"
TTL = 100.0
MOST = 4
PROCESSES = st.sampled_from([0, 1])
NAMES = st.sampled_from(["a", "b/ü", "c", "d", "e"])
TEXTS = st.sampled_from(["one", "two words", "ä\n", "x" * 70_000])
"""The last is more than an item holds."""


@dataclass(frozen=True)
class Weather:
    """What befalls the calls of one operation: `how`, from the `skip`th call on, `times` times."""

    how: str
    skip: int
    times: int


FINE = None
WEATHER = st.none() | st.builds(
    Weather,
    st.sampled_from(["ProvisionedThroughputExceededException", "InternalServerError", "reset", "lost", "cut"]),
    st.integers(0, 3), st.sampled_from([1, 2, 4, 9]),
)  # fmt: skip


class World(Protocol):
    """What the machine runs in. `fails`: whether weather can be made there."""

    fails: bool

    def store(self, clock: HandClock) -> SessionStore:
        """Of a process."""

    def weather(self, weather: Weather | None) -> None:
        """From now on."""

    def kill(self, store: SessionStore) -> None:
        """Nothing that its process does reaches anybody any more."""

    def clear(self) -> None:
        """Nothing is kept."""


class Speaker:
    """Answers a turn when it is told how."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self._ending: asyncio.Future[tuple[str, bool]] = asyncio.get_running_loop().create_future()
        self._turn: Turn | None = None

    async def __call__(self, request: GenerationRequest, turn: Turn) -> None:
        self._turn = turn
        await turn.claimed()
        self.begun.set()
        text, whole = await self._ending
        self.say(text)
        if not whole:
            raise EngineOverloaded
        turn.heard.end(None)
        await turn.settle()

    def say(self, text: str) -> None:
        assert self._turn is not None
        if text:
            self._turn.heard.add([Piece(0, "text", text, None)])

    def end(self, text: str, *, whole: bool) -> None:
        self._ending.set_result((text, whole))


@dataclass
class Running:
    task: asyncio.Task[None]
    speaker: Speaker
    before: ModelSession | None
