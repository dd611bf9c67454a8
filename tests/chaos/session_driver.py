"""How `session_machine` does things and holds what comes of it to what the model says."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from tests.chaos.faults import PATIENCE
from tests.chaos.session_model import Model, ModelSession
from tests.chaos.session_world import FINE, MOST, OWNER, TTL, Running, Speaker, Weather, World
from tests.web.conftest import MODEL
from tests.web.doubles import HandClock
from tests.web.session_kit import configured
from web.conversations import Conversations
from web.dialects.service import parse_chat
from web.session_errors import SessionBusy, SessionExists, SessionNotFound, StoreUnavailable, TooManySessions
from web.session_table import LEASE_SECONDS
from web.sessions import SessionKey

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from web.sessions import SessionStore


class Driver(RuleBasedStateMachine):
    """`world` is set by who runs it."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = HandClock()
        self.settings = configured(limits={"session_ttl_seconds": TTL, "max_sessions": MOST}, turn_wait_seconds=1.0)
        self.stores = [self.world.store(self.clock) for _ in range(2)]
        self.processes = [self._process(store) for store in self.stores]
        self.model = Model(MOST)
        self.turns: dict[str, Running] = {}

    def teardown(self) -> None:
        self.world.weather(FINE)
        for turn in self.turns.values():
            turn.task.cancel()
        self.do(self._end_all())
        self.loop.close()
        self.world.clear()

    async def _end_all(self) -> None:
        for process in self.processes:
            await process.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def changes(
        self, name: str, work: Coroutine[Any, Any, Any] | asyncio.Task[Any], after: ModelSession | None,
        weather: Weather | None, *, refused: type[Exception] | None = None, turn_died: bool = False,
    ) -> bool:  # fmt: skip
        """Do it in that weather, and hold what is told and kept to what must be. Whether it was told to have failed.
        `turn_died`: then a question may be left whose process has given it up, and that ends with its lease."""
        before = self.find(name)
        self.world.weather(weather)
        outcome = self.outcome(work)
        self.world.weather(FINE)
        if isinstance(outcome, StoreUnavailable):
            assert weather is not None, "it fails for a reason"
            for process in self.processes:
                self.do(process.close())  # what is taken back is taken back
            if turn_died:
                self.turns.pop(name, None)
                self.leases_end()
            self.may_be(name, before, after, refused=refused is not None, turn_died=turn_died)
            return True
        if refused is not None:
            assert isinstance(outcome, refused), outcome
            return True
        assert outcome is None or not isinstance(outcome, BaseException), outcome
        self.set(name, after)
        return False

    def may_be(
        self, name: str, before: ModelSession | None, after: ModelSession | None, *, refused: bool, turn_died: bool
    ) -> None:
        """It is as before, or as it was to be: nothing else."""
        possible = [before] if refused else [before, after]
        if turn_died:
            possible += [one.died() for one in (before, after) if one is not None and one.answering is not None]
            possible = [one for one in possible if one is None or one.answering is None]
        now = self.clock.time()
        seen = self.do(self._loaded(name))
        for one in possible:
            alive = one is not None and (one.answering is not None or one.expires_at > now)
            if seen == ((one.history(), one.title, one.expires_at) if one is not None and alive else None):
                self.set(name, one)
                return
        raise AssertionError(f"{name} is {seen}, and may be one of {possible}")

    async def _loaded(self, name: str) -> Any:
        try:
            one = await self.processes[0].load(SessionKey(OWNER, name))
        except SessionNotFound:
            return None
        return one.history(), one.title, one.expires_at

    def is_busy(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        async def told() -> None:
            task = asyncio.ensure_future(work)
            waits = len(self.clock.pending()) + (2 if self.world.fails else 1)  # its patience, and its next look
            while not task.done() and len(self.clock.pending()) < waits:  # noqa: ASYNC110 (it is no asyncio object)
                await asyncio.sleep(0.001)
            self.clock.advance(1.0)
            await task

        assert isinstance(self.outcome(told()), SessionBusy), name
        self.pass_time(0.0)

    def speak(self, process: int, name: str, prompt: str) -> tuple[Coroutine[Any, Any, None], asyncio.Future[Speaker]]:
        speaker: asyncio.Future[Speaker] = self.loop.create_future()
        asked = parse_chat({"model": MODEL, "prompt": prompt})

        async def speaking() -> None:
            await self.processes[process].speak(SessionKey(OWNER, name), asked, speaker.result())

        async def make() -> None:
            speaker.set_result(Speaker())

        self.do(make())
        return speaking(), speaker

    def some_turn(self, data: st.DataObject) -> tuple[str, Running, ModelSession]:
        """That is over now."""
        name = data.draw(st.sampled_from(sorted(self.turns)))
        return name, self.turns.pop(name), self.model.kept[name]

    def leases_end(self) -> None:
        """Those of processes that live are renewed meanwhile."""
        for _ in range(4):
            self.pass_time(LEASE_SECONDS / 4)

    def pass_time(self, seconds: float) -> None:
        """Until all who work on turns have looked, and sleep again."""
        asleep = sum(1 for turn in self.turns.values() if not turn.task.done()) if self.world.fails else 0
        self.clock.advance(seconds)

        async def settle() -> None:
            while len(self.clock.pending()) < asleep:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        self.do(settle())

    def seen(self, name: str) -> list[dict[str, object]]:
        return self.do(self.processes[0].history(SessionKey(OWNER, name)))

    def find(self, name: str) -> ModelSession | None:
        return self.model.find(name, self.clock.time())

    def set(self, name: str, one: ModelSession | None) -> None:
        if one is None:
            self.model.kept.pop(name, None)
        else:
            self.model.kept[name] = one

    def no_room_for(self, name: str) -> type[Exception] | None:
        if self.find(name) is not None:
            return SessionExists
        return TooManySessions if self.is_full() else None

    def is_full(self) -> bool:
        return len(self.model.living(self.clock.time())) >= MOST

    def end(self) -> float:
        return self.clock.time() + TTL

    def _process(self, store: SessionStore) -> Conversations:
        return Conversations(store, settings=self.settings, clock=self.clock)

    def outcome(self, work: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> Any:
        """What it returns, or raises."""

        async def told() -> Any:
            try:
                return await work
            except asyncio.CancelledError as error:
                return error
            except Exception as error:
                return error

        return self.do(told())

    def do(self, work: Any) -> Any:
        async def in_time() -> Any:
            async with asyncio.timeout(PATIENCE):
                return await work

        return self.loop.run_until_complete(in_time())
