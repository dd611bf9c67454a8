"""Turns of sessions over real sockets: what the model sees, what is kept, what becomes of a turn that goes wrong."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.web.conftest import MODEL, target_of, until
from tests.web.session_kit import SYSTEM, answer, ask, assistant, begin, configured, history, seen, turn, user

if TYPE_CHECKING:
    import aiohttp

    from functions.engines.scripted_server import ScriptedServer
    from tests.web.conftest import Served
    from tests.web.doubles import HandClock, HandEngine


@pytest.fixture
def hand_served(serve: Any, hand_engine: HandEngine) -> Served:
    result: Served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured())
    return result


async def test_a_turn_sees_the_turns_before_it_behind_the_system_prompt(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    for number, expected in enumerate(([user("q0")], [user("q0"), assistant("a 0"), user("q1")])):
        response, talk = await begin(hand_served, hand_engine, turn(f"q{number}"))
        assert seen(talk) == [SYSTEM, *expected]
        await answer(talk, "a ", str(number))
        assert b"data: a \n\n" in await response.rest()
    assert await history(hand_served) == [SYSTEM, user("q0"), assistant("a 0"), user("q1"), assistant("a 1")]


async def test_a_prompt_without_a_session_is_remembered_nowhere(
    hand_served: Served, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    body = {"model": MODEL, "prompt": "hi", "system-prompt": "Be brief."}
    response, talk = await begin(hand_served, hand_engine, body)
    assert seen(talk) == [{"role": "system", "content": "Be brief."}, user("hi")]
    await answer(talk, "yes")
    await response.rest()
    async with http.get(hand_served.url + "/sessions") as listed:
        assert await listed.json() == []


async def test_the_system_prompt_is_set_by_the_caller_and_stays(hand_served: Served, hand_engine: HandEngine) -> None:
    prompts = ["Be brief.", None, "Be kind."]
    for prompt, expected in zip(prompts, ["Be brief.", "Be brief.", "Be kind."], strict=True):
        response, talk = await begin(hand_served, hand_engine, turn(**{"system-prompt": prompt}))
        assert seen(talk)[0]["content"] == expected
        await answer(talk, "a")
        await response.rest()
    assert (await history(hand_served))[0]["content"] == "Be kind."


async def test_the_model_sees_the_last_messages_and_the_history_keeps_them_all(
    serve: Any, hand_engine: HandEngine
) -> None:
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured(context_messages=4))
    for number in range(4):
        response, talk = await begin(served, hand_engine, turn(f"q{number}"))
        await answer(talk, f"a{number}")
        await response.rest()
    assert seen(talk) == [SYSTEM, user("q2"), assistant("a2"), user("q3")]
    assert len(await history(served)) == 9


async def test_the_model_sees_what_fits_into_its_context_by_the_engines_own_count(
    serve: Any, hand_engine: HandEngine
) -> None:
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured(context_length=1000))
    total = 0
    for number, sees in enumerate((1, 3, 5, 7, 5)):
        response, talk = await begin(served, hand_engine, turn("x" * 20, **{"max-token": 100}))
        assert len(seen(talk)) - 1 == sees, number
        total = 140 if number == 0 else total + 270
        await answer(talk, "a", usage={"prompt_tokens": total, "completion_tokens": 10, "total_tokens": total + 10})
        await response.rest()


async def test_a_context_that_the_engine_finds_too_long_is_sent_again_without_its_older_half(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    for number in range(3):
        response, talk = await begin(hand_served, hand_engine, turn(f"q{number}"))
        await answer(talk, f"a{number}")
        await response.rest()
    response, talk = await begin(hand_served, hand_engine, turn("q3"))
    refusal = (
        b'{"message": "The input (99 tokens) is longer than the model\'s context length (9 tokens).", "code": 400}'
    )
    for sees in (7, 3, 1):
        assert len(seen(talk)) - 1 == sees
        if sees > 1:
            await talk.answer(400, refusal)
            talk = await hand_engine.next()
    await answer(talk, "at last")
    assert b"data: at last" in await response.rest()
    assert (await history(hand_served))[-2:] == [user("q3"), assistant("at last")]


async def test_a_question_that_is_too_long_alone_is_refused_and_not_kept(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    response, talk = await begin(hand_served, hand_engine, turn("q"))
    await talk.answer(400, b'{"message": "longer than the maximum context", "code": 400}')
    assert (await response.head())[0] == 400
    assert b"context_length_exceeded" in await response.rest()
    assert await history(hand_served) == []


async def test_what_limits_a_prompt_does_not_measure_what_the_service_remembers(
    serve: Any, engine: ScriptedServer
) -> None:
    served = serve(engine, settings=configured(limits={"max_prompt_length": 60}))
    await ask(served, *(f"{n}" * 30 for n in range(5)))
    response = await served.raw(turn("x" * 61), "/chat/completions")
    assert (await response.head())[0] == 400
    assert b"string_above_max_length" in await response.rest()
    assert len(await history(served)) == 11, "and what was refused is not kept"


async def test_a_new_system_prompt_is_measured_and_makes_room_for_itself(serve: Any, engine: ScriptedServer) -> None:
    served = serve(engine, settings=configured(limits={"max_prompt_length": 60}))
    await ask(served, *(f"{n}" * 30 for n in range(3)))
    response = await served.raw(turn("hi", events=True, **{"system-prompt": "y" * 50}), "/chat/completions")
    assert b'"prompt_tokens":2,' in await response.rest(), "the history made room"
    response = await served.raw(turn("hi", **{"system-prompt": "z" * 61}), "/chat/completions")
    assert (await response.head())[0] == 400
    assert (await history(served))[0]["content"] == "y" * 50


async def test_a_turn_that_fails_before_its_first_word_leaves_no_trace(
    hand_served: Served, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    """Its caller is told an error and will ask again: the question must not stand there twice."""
    failed = {"message": "broken", "code": 500}
    for expected in ([], [SYSTEM, user("q"), assistant("a")]):
        response, talk = await begin(hand_served, hand_engine, turn("again"))
        await talk.answer(500, json.dumps(failed).encode())
        assert (await response.head())[0] == 502
        await response.rest()
        assert await history(hand_served) == expected
        async with http.get(hand_served.url + "/sessions") as listed:
            assert await listed.json() == (["s"] if expected else [])
        response, talk = await begin(hand_served, hand_engine, turn("q"))
        if not expected:
            await answer(talk, "a")
            await response.rest()
        else:
            assert seen(talk) == [SYSTEM, user("q"), assistant("a"), user("q")]


async def test_neither_does_one_whose_caller_is_told_in_the_stream(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    response, talk = await begin(hand_served, hand_engine, turn("q"))
    await talk.answer(503, b"modal-http: no container")
    await response.until(b": booting")
    await (await hand_engine.next()).answer(500, b'{"message": "broken", "code": 500}')
    assert b"event: error" in await response.rest()
    assert await history(hand_served) == []


async def test_an_engine_that_dies_leaves_its_answer_marked_as_interrupted(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    response, talk = await begin(hand_served, hand_engine, turn("q"))
    await talk.begin()
    await talk.token("so ")
    await talk.token("f")
    talk.cut()
    assert b"event: error" in await response.rest()
    assert await history(hand_served) == [SYSTEM, user("q"), assistant("so f", interrupted=True)]


@pytest.mark.parametrize("words", [[], ["so ", "f"]])
async def test_a_caller_who_leaves_leaves_what_he_was_told(
    hand_served: Served, hand_engine: HandEngine, words: list[str]
) -> None:
    response, talk = await begin(hand_served, hand_engine, turn("q"))
    assert await history(hand_served) == [SYSTEM, user("q")], "the question is kept before the engine has answered"
    await talk.begin()
    for word in words:
        await talk.token(word)
        await response.until(f"data: {word}".encode())
    response.leave()
    await until(talk.closed.is_set)
    expected = [SYSTEM, user("q"), assistant("".join(words), interrupted=True)]
    while (kept := await history(hand_served)) != expected:
        assert kept == [SYSTEM, user("q")]


async def test_an_answer_is_kept_before_its_end_is_told(hand_served: Served, hand_engine: HandEngine) -> None:
    for number in range(20):
        response, talk = await begin(hand_served, hand_engine, turn("q"))
        await answer(talk, "a")
        await response.until(b"event: done")
        assert len(await history(hand_served)) == 3 + 2 * number


async def test_deleting_stops_the_answer_and_nothing_of_it_is_kept(
    hand_served: Served, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    response, talk = await begin(hand_served, hand_engine, turn("q"))
    await talk.begin()
    await talk.token("so far")
    await response.until(b"so far")
    async with http.delete(hand_served.url + "/chat/history/s") as deleted:
        assert (deleted.status, await deleted.read()) == (204, b"")
    await until(talk.closed.is_set)
    assert b"session_deleted" in await response.rest()
    assert await history(hand_served) == []


async def test_deleting_before_the_first_word_is_a_status(
    serve: Any, hand_engine: HandEngine, http: aiohttp.ClientSession, clock: HandClock
) -> None:
    """And before a comment has begun the stream, so no time may pass."""
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured(), clock=clock)
    response, talk = await begin(served, hand_engine, turn("q"))
    await http.delete(served.url + "/chat/history/s")
    status, headers = await response.head()
    assert (status, headers["x-should-retry"]) == (409, "false")
    await until(talk.closed.is_set)


async def test_a_session_that_was_deleted_and_begun_anew_is_not_touched_by_the_old_answer(
    hand_served: Served, hand_engine: HandEngine, http: aiohttp.ClientSession
) -> None:
    old, old_talk = await begin(hand_served, hand_engine, turn("old"))
    await http.delete(hand_served.url + "/chat/history/s")
    new, new_talk = await begin(hand_served, hand_engine, turn("new"))
    await old.rest()
    await answer(new_talk, "a")
    await new.rest()
    assert await history(hand_served) == [SYSTEM, user("new"), assistant("a")]
    old_talk.cut()


async def test_two_turns_at_once_are_one_after_the_other(hand_served: Served, hand_engine: HandEngine) -> None:
    first, talk = await begin(hand_served, hand_engine, turn("q0"))
    second = await hand_served.raw(turn("q1"), "/chat/completions")
    await talk.begin()
    await talk.token("a")
    await first.until(b"data: a")
    assert hand_engine.waiting() == 0, "the second waits for the first"
    await talk.token("0", finish="stop")
    await talk.end()
    await first.rest()
    talk = await hand_engine.next()
    assert seen(talk) == [SYSTEM, user("q0"), assistant("a0"), user("q1")]
    await answer(talk, "a1")
    await second.rest()
    assert len(await history(hand_served)) == 5


async def test_who_leaves_while_he_waits_for_another_turn_has_not_asked(
    hand_served: Served, hand_engine: HandEngine
) -> None:
    first, talk = await begin(hand_served, hand_engine, turn("q0"))
    waiting = await hand_served.raw(turn("q1"), "/chat/completions")
    assert await waiting.ready() == b""
    waiting.leave()
    third = await hand_served.raw(turn("q2"), "/chat/completions")
    assert await third.ready() == b""
    await answer(talk, "a0")
    await first.rest()
    talk = await hand_engine.next()
    assert seen(talk) == [SYSTEM, user("q0"), assistant("a0"), user("q2")]
    await answer(talk, "a2")
    await third.rest()
    assert len(await history(hand_served)) == 5


async def test_many_turns_at_once_never_interleave(served: Served) -> None:
    await asyncio.gather(*(ask(served, f"q{n}", x_scripted={"tokens": 2, "gap": 0.001}) for n in range(15)))
    told = await history(served)
    assert [message["role"] for message in told] == ["system", *["user", "assistant"] * 15]
    assert {message["content"] for message in told[1::2]} == {f"q{n}" for n in range(15)}
    assert {message["content"] for message in told[2::2]} == {"t0 t1 "}


async def test_sessions_do_not_wait_for_each_other(hand_served: Served, hand_engine: HandEngine) -> None:
    await begin(hand_served, hand_engine, turn(session="a"))
    await begin(hand_served, hand_engine, turn(session="b"))


@pytest.mark.parametrize("path", ["/chat/completions", "/chat/history/s/rollback"])
async def test_who_waits_too_long_for_another_turn_is_told_409(
    serve: Any, hand_engine: HandEngine, clock: HandClock, path: str
) -> None:
    served = serve(target_of(hand_engine.url, kind="sglang"), settings=configured(turn_wait_seconds=7), clock=clock)
    _, talk = await begin(served, hand_engine, turn("q0"))
    response = await served.raw(turn("q1"), path)
    await until(lambda: any(6.9 < pause < 7.1 for pause in clock.pending()))
    clock.advance(7)
    status, headers = await response.head()
    assert (status, headers["retry-after"], headers["x-should-retry"]) == (409, "1", "true")
    error = json.loads(await response.rest())["error"]
    assert (error["code"], error["type"]) == ("session_busy", "conflict_error")
    assert hand_engine.waiting() == 0
    talk.cut()
