"""Two processes that do with sessions whatever comes to mind, in any order and whatever fails, beside a model.

What is told to have been done is done; what is told to have failed is done or not, but never half and never twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from tests.chaos.session_driver import Driver
from tests.chaos.session_model import SYSTEM, ModelSession
from tests.chaos.session_world import NAMES, OWNER, PROCESSES, TEXTS, WEATHER, Running, Weather
from web.errors import EngineOverloaded
from web.session_errors import SessionDeleted, SessionNotFound, TooManySessions
from web.session_table import RENEW_SECONDS
from web.sessions import SessionKey


class Sessions(Driver):
    """Its rules. `world` is set by who runs it."""

    # What callers do

    @rule(process=PROCESSES, name=NAMES, title=st.sampled_from(["", "A title"]), weather=WEATHER)
    def create(self, process: int, name: str, title: str, weather: Weather | None) -> None:
        made = ModelSession(title, SYSTEM, (), self.end())
        work = self.processes[process].create(SessionKey(OWNER, name), title=title, system=None)
        self.changes(name, work, made, weather, refused=self.no_room_for(name))

    @rule(process=PROCESSES, name=NAMES, other=NAMES, messages=st.integers(0, 3), weather=WEATHER)
    def fork(self, process: int, name: str, other: str, messages: int, weather: Weather | None) -> None:
        one = self.find(name)
        work = self.processes[process].fork(SessionKey(OWNER, name), other, messages=messages)
        if one is None:
            self.changes(name, work, None, weather, refused=SessionNotFound)
            return
        made = replace(one, said=one.said[:messages], answering=None, expires_at=self.end())
        self.changes(other, work, made, weather, refused=self.no_room_for(other))

    @rule(process=PROCESSES, name=NAMES, amount=st.integers(1, 3), weather=WEATHER)
    def roll_back(self, process: int, name: str, amount: int, weather: Weather | None) -> None:
        one = self.find(name)
        work = self.processes[process].roll_back(SessionKey(OWNER, name), amount)
        if one is not None and one.answering is not None:
            self.is_busy(name, work)
            return
        after = one and replace(one, said=one.said[: max(0, len(one.said) - amount)], expires_at=self.end())
        self.changes(name, work, after, weather)

    @rule(process=PROCESSES, name=NAMES, title=st.sampled_from(["Another", "Third"]), weather=WEATHER)
    def rename(self, process: int, name: str, title: str, weather: Weather | None) -> None:
        one = self.find(name)
        work = self.processes[process].change(
            SessionKey(OWNER, name), lambda session: session.changed(title=title, system=None)
        )
        if one is not None and one.answering is not None:
            self.is_busy(name, work)
            return
        self.changes(
            name, work, one and replace(one, title=title), weather, refused=None if one else SessionNotFound
        )  # fmt: skip

    @rule(process=PROCESSES, name=NAMES, weather=WEATHER)
    def delete(self, process: int, name: str, weather: Weather | None) -> None:
        self.changes(name, self.processes[process].delete(SessionKey(OWNER, name)), None, weather)
        if self.find(name) is None and (turn := self.turns.pop(name, None)) is not None:
            self.pass_time(RENEW_SECONDS)  # for a process that does not hear of it otherwise
            assert isinstance(self.outcome(turn.task), SessionDeleted)

    @rule(process=PROCESSES, name=NAMES, prompt=TEXTS, weather=WEATHER)
    def ask(self, process: int, name: str, prompt: str, weather: Weather | None) -> None:
        before = self.find(name)
        if before is not None and before.answering is not None:
            self.is_busy(name, self.speak(process, name, prompt)[0])
            return
        blank = ModelSession("", SYSTEM, (), 0.0)
        after = (before or blank).asked(prompt, by=process, expires_at=self.end())
        work, begun = self.speak(process, name, prompt)

        async def until_begun() -> None:
            speaker = await begun
            task = asyncio.ensure_future(work)
            waiting = asyncio.ensure_future(speaker.begun.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if task.done():
                await task
            self.turns[name] = Running(task, speaker, before)

        refused = TooManySessions if before is None and self.is_full() else None
        failed = self.changes(name, until_begun(), after, weather, refused=refused, turn_died=True)
        assert failed == (name not in self.turns or self.turns[name].task.done())

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), text=TEXTS, weather=WEATHER)
    def answer(self, data: st.DataObject, text: str, weather: Weather | None) -> None:
        name, turn, asked = self.some_turn(data)
        turn.speaker.end(text, whole=True)
        after = asked.answered(text, whole=True, expires_at=self.end())
        self.changes(name, turn.task, after, weather, turn_died=True)

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), text=st.just("") | TEXTS)
    def leave(self, data: st.DataObject, text: str) -> None:
        """The caller goes, with or without having been told something."""
        name, turn, asked = self.some_turn(data)
        turn.speaker.say(text)
        turn.task.cancel()
        assert isinstance(self.outcome(turn.task), asyncio.CancelledError)
        self.model.kept[name] = asked.answered(text, whole=False, expires_at=self.end())

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), text=st.just("") | TEXTS)
    def fail(self, data: st.DataObject, text: str) -> None:
        """The engine fails: before its first word the question was not asked."""
        name, turn, asked = self.some_turn(data)
        turn.speaker.end(text, whole=False)
        assert isinstance(self.outcome(turn.task), EngineOverloaded)
        if text:
            self.model.kept[name] = asked.answered(text, whole=False, expires_at=self.end())
        else:
            self.set(name, turn.before)

    # What happens by itself

    @rule(seconds=st.sampled_from([1.0, 10.0, 50.0]))
    def wait(self, seconds: float) -> None:
        self.pass_time(seconds)

    @precondition(lambda self: self.turns and self.world.fails)
    @rule(process=PROCESSES)
    def die(self, process: int) -> None:
        """A process is killed, and another takes its place. Its turns are over when their leases are."""
        self.world.kill(self.stores[process])
        dead = [name for name in self.turns if self.model.kept[name].answering == process]
        for name in dead:
            self.turns.pop(name).task.cancel()
        self.stores[process] = self.world.store(self.clock)
        self.processes[process] = self._process(self.stores[process])
        for name in dead:
            self.is_busy(name, self.speak(1 - process, name, "too early")[0])
        self.leases_end()
        for name in dead:
            self.model.kept[name] = self.model.kept[name].died()

    @invariant()
    def everybody_sees_what_the_model_has(self) -> None:
        living = self.model.living(self.clock.time())
        for process in self.processes:
            listed = self.do(process.listed(OWNER))
            assert sorted((one.id, one.title) for one in listed) == sorted(
                (name, one.title) for name, one in living.items()
            )
        for name, one in living.items():
            assert self.seen(name) == one.history(), name
