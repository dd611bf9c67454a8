"""A store that takes its time, or fails: what is told waits for what is kept, and nothing is left half done."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from infra.settings import Settings
from tests.web.conftest import MODEL, target_of, until
from tests.web.session_kit import answer, configured, turn
from tests.web.socket_kit import connected
from web.clock import RealClock
from web.conversations import Conversations, Turn
from web.dialects.pieces import Piece
from web.dialects.service import parse_chat
from web.errors import EngineOverloaded
from web.session_errors import SessionDeleted
from web.session_store import SessionsInMemory
from web.sessions import Message, Session, SessionKey

if TYPE_CHECKING:
    import aiohttp

    from tests.web.conftest import Served
    from tests.web.doubles import HandEngine
    from web.dialects.request import GenerationRequest

KEY = SessionKey("public", "s")


class SlowStore(SessionsInMemory):
    """Writes end when they are let: `held` while it is true. `broken`: they fail then."""

    def __init__(self) -> None:
        super().__init__(clock=RealClock())
        self.held = False
        self.broken = False
        self.writing = 0

    async def create(self, session: Session, *, most: int) -> None:
        await self._wait()
        await super().create(session, most=most)

    async def save(self, session: Session) -> None:
        await self._wait()
        await super().save(session)

    async def _wait(self) -> None:
        self.writing += 1
        await until(lambda: not self.held)
        self.writing -= 1
        if self.broken:
            raise ConnectionError("the table is not to be reached")


@pytest.fixture
def store() -> SlowStore:
    return SlowStore()


@pytest.fixture
def conversations(store: SlowStore) -> Conversations:
    return Conversations(store, settings=configured(), clock=RealClock())


class Responder:
    """Says what it is told to; `begun` once it was asked."""

    def __init__(self, text: str = "", *, complete: bool = False, error: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.asked: list[GenerationRequest] = []
        self._text, self._complete, self._error = text, complete, error

    async def __call__(self, request: GenerationRequest, turn: Turn) -> None:
        self.asked.append(request)
        turn.heard.add([Piece(0, "text", self._text, None)] if self._text else [])
        self.begun.set()
        if self._error is not None:
            raise self._error
        if not self._complete:
            await asyncio.Event().wait()
        turn.heard.end(None)
        await turn.settle()


def speaking(conversations: Conversations, responder: Responder, prompt: str = "q") -> asyncio.Task[None]:
    asked = parse_chat({"model": MODEL, "prompt": prompt})
    return asyncio.create_task(conversations.speak(KEY, asked, responder))


async def kept(store: SlowStore) -> list[Any]:
    session = await store.load(KEY)
    return [] if session is None else [(message.content, message.interrupted) for message in session.messages]


async def test_who_leaves_while_his_answer_is_written_leaves_it_written(
    store: SlowStore, conversations: Conversations
) -> None:
    responder = Responder("so far")
    turn = speaking(conversations, responder)
    await responder.begun.wait()
    store.held = True
    for _ in range(2):  # the second comes while the answer is on its way into the store
        turn.cancel()
        await until(lambda: store.writing)
    with contextlib.suppress(asyncio.CancelledError):
        await turn
    closing = asyncio.create_task(conversations.close())
    await asyncio.sleep(0)
    assert not closing.done(), "the application's end waits for it"
    store.held = False
    await closing
    assert await kept(store) == [("q", False), ("so far", True)]


@pytest.mark.parametrize("before", [0, 1])
async def test_who_leaves_while_his_question_is_written_claims_nothing(
    store: SlowStore, conversations: Conversations, before: int
) -> None:
    for _ in range(before):
        await speaking(conversations, Responder("a", complete=True), "before")
    store.held = True
    turn = speaking(conversations, Responder())
    await until(lambda: store.writing)
    turn.cancel()
    for _ in range(10):  # he is gone before his question is written
        await asyncio.sleep(0)
    store.held = False
    with contextlib.suppress(asyncio.CancelledError):
        await turn
    await conversations.close()
    assert await kept(store) == [("before", False), ("a", False)] * before
    await speaking(conversations, Responder("b", complete=True))
    assert len(await kept(store)) == 2 * before + 2


async def test_a_turn_that_was_refused_is_taken_back_and_its_error_told(
    store: SlowStore, conversations: Conversations
) -> None:
    with pytest.raises(EngineOverloaded):
        await speaking(conversations, Responder(error=EngineOverloaded()))
    assert await store.load(KEY) is None


async def test_an_answer_whose_session_was_deleted_while_it_was_written_is_not_kept(
    store: SlowStore, conversations: Conversations
) -> None:
    responder = Responder("a", complete=True)
    turn = speaking(conversations, responder)
    await responder.begun.wait()
    store.held = True
    await until(lambda: store.writing)
    await conversations.delete(KEY)
    store.held = False
    with contextlib.suppress(SessionDeleted):
        await turn
    assert await store.load(KEY) is None


async def test_a_turn_that_another_container_claims_first_comes_after_it(
    store: SlowStore, conversations: Conversations
) -> None:
    store.held = True
    responder = Responder("second", complete=True)
    turn = speaking(conversations, responder, "late")
    await until(lambda: store.writing)
    await SessionsInMemory.create(store, session_with("first"), most=9)
    store.held = False
    await turn
    assert await kept(store) == [("early", False), ("first", False), ("late", False), ("second", False)]
    contents = [[message["content"] for message in request.fields["messages"]] for request in responder.asked]
    assert [told[-1] for told in contents] == ["late", "late"]
    assert "first" in contents[1], "asked again, with what was said meanwhile"
    assert "first" not in contents[0]


def session_with(answer: str) -> Session:
    told = (Message(role="user", content="early"), Message(role="assistant", content=answer))
    return Session(key=KEY, system="", messages=told, expires_at=RealClock().time() + 60)


@pytest.fixture
def slow_served(serve: Any, hand_engine: HandEngine, store: SlowStore) -> Served:
    settings: Settings = configured()
    result: Served = serve(target_of(hand_engine.url, kind="llamacpp"), settings=settings, sessions=store)
    return result


async def test_over_http_the_end_is_told_when_the_answer_is_kept(
    slow_served: Served, hand_engine: HandEngine, store: SlowStore
) -> None:
    response = await slow_served.raw(turn(), "/chat/completions")
    talk = await hand_engine.next()
    store.held = True
    await talk.begin()
    await talk.token("a")
    await response.until(b"data: a")
    await talk.token("", finish="stop")
    await talk.end()
    await until(lambda: store.writing)
    assert b"done" not in response.received + await response.ready()
    store.held = False
    await response.until(b"event: done")


async def test_over_a_socket_the_end_is_told_when_the_answer_is_kept(
    slow_served: Served, hand_engine: HandEngine, store: SlowStore
) -> None:
    async with connected(slow_served, "?events=1&session_id=s") as client:
        await client.say({"model": MODEL, "prompt": "q"})
        talk = await hand_engine.next()
        store.held = True
        await talk.begin()
        await talk.token("a")
        assert [(await client.told())["type"] for _ in range(2)] == ["begin", "piece"]
        await talk.token("", finish="stop")
        await talk.end()
        await until(lambda: store.writing)
        await client.say({"type": "ping"})
        assert (await client.told())["type"] == "pong"
        store.held = False
        assert (await client.told())["type"] == "end"


async def test_an_answer_that_cannot_be_kept_ends_in_an_error(
    slow_served: Served, hand_engine: HandEngine, store: SlowStore
) -> None:
    response = await slow_served.raw(turn(), "/chat/completions")
    talk = await hand_engine.next()
    store.broken = True
    await answer(talk, "a")
    told = await response.rest()
    assert b"event: error" in told
    assert b"internal_error" in told
    assert b"table" not in told, "what went wrong inside is nobody's business"


async def test_a_question_is_kept_before_anything_is_told_and_while_the_engine_reads_it(
    slow_served: Served, hand_engine: HandEngine, store: SlowStore
) -> None:
    store.held = True
    response = await slow_served.raw(turn(), "/chat/completions")
    talk = await hand_engine.next()
    await talk.begin()
    await talk.token("a")
    await until(lambda: store.writing)
    assert await response.ready() == b""
    store.held = False
    await response.until(b"data: a")


@pytest.mark.parametrize("engine_is_asked", [True, False])
async def test_a_question_that_cannot_be_kept_is_an_error_and_frees_the_engine(
    slow_served: Served, hand_engine: HandEngine, store: SlowStore, http: aiohttp.ClientSession, engine_is_asked: bool
) -> None:
    store.broken = True
    store.held = engine_is_asked

    async def asked() -> None:
        talk = await hand_engine.next()
        store.held = False
        await talk.closed.wait()

    async with asyncio.TaskGroup() as tasks:
        if engine_is_asked:
            tasks.create_task(asked())
        async with http.post(slow_served.url + "/chat/completions", json=turn()) as response:
            assert response.status == 500
            assert (await response.json())["error"]["code"] == "internal_error"
