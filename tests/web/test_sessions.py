"""The domain of sessions: what a turn makes of one, what of it a model sees, and that it fits the model's context."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from web.caller import Caller
from web.dialects.pieces import Usage
from web.sessions import (
    MESSAGE_TOKENS,
    TEMPLATE_TOKENS,
    Message,
    Session,
    SessionKey,
    context,
    fewer,
    fitting,
    owner_of,
)

KEY = SessionKey("public", "s")
PLENTY = 1_000_000


def blank(**more: Any) -> Session:
    return Session(key=KEY, expires_at=0.0, **{"system": "sys", **more})


def asked(session: Session, prompt: str, *, system: str | None = None, model: str = "m") -> Session:
    return session.asked(prompt, turn="t", system=system, model=model, expires_at=0.0)


def answered(session: Session, text: str, *, usage: Usage | None = None, sent: int = 99, **more: Any) -> Session:
    told = {"interrupted": False, "most": 1000, "expires_at": 0.0, **more}
    return session.answered(text, usage=usage, sent=min(sent, len(session.messages)), **told)


def talk(*words: str) -> Session:
    """Questions and answers in turn; the last one is a question if their number is odd."""
    messages = (Message(role="assistant" if n % 2 else "user", content=word) for n, word in enumerate(words))
    return blank(messages=tuple(messages))


def counted(turns: int, *, tokens: int = 10) -> Session:
    """So many turns of which each costs `tokens` for the question and as many for the answer, as an engine counts."""
    session, total = blank(), 0
    for n in range(turns):
        session = asked(session, f"q{n}")
        usage = Usage(total + tokens, tokens, 0, None)
        session = answered(session, f"a{n}", usage=usage)
        total += 2 * tokens
    return session


def test_a_turn_is_a_question_and_its_answer_in_versions_of_their_own() -> None:
    before = blank()
    question = asked(before, "q")
    answer = answered(question, "a")
    assert [session.version for session in (before, question, answer)] == [1, 2, 3]
    assert [session.turn for session in (before, question, answer)] == [None, "t", None]
    assert {session.token for session in (before, question, answer)} == {before.token}
    assert answer.history() == [
        {"role": "system", "content": "sys"}, {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
    ]  # fmt: skip


def test_two_sessions_of_one_name_are_two() -> None:
    assert blank().token != blank().token


def test_a_turn_that_comes_to_nothing_leaves_the_session_as_it_was() -> None:
    before = talk("q0", "a0")
    undone = asked(before, "q1", system="another").unasked(before)
    assert (undone.messages, undone.system, undone.turn) == (before.messages, before.system, None)
    assert undone.version == before.version + 2


def test_an_interrupted_answer_is_marked_and_only_that() -> None:
    session = answered(asked(blank(system=""), "q"), "so f", interrupted=True)
    assert session.history() == [
        {"role": "user", "content": "q"}, {"role": "assistant", "content": "so f", "interrupted": True}
    ]  # fmt: skip


@pytest.mark.parametrize(("amount", "left"), [(1, 3), (2, 2), (4, 0), (99, 0)])
def test_rolling_back_takes_the_last_messages_and_never_the_system_prompt(amount: int, left: int) -> None:
    session = talk("q", "a", "q", "a").rolled_back(amount, expires_at=0.0)
    assert len(session.messages) == left
    assert session.history()[0] == {"role": "system", "content": "sys"}


def test_only_so_many_messages_are_kept() -> None:
    session = blank()
    for n in range(10):
        session = answered(asked(session, f"q{n}"), f"a{n}", most=4)
    assert [message.content for message in session.messages] == ["q8", "a8", "q9", "a9"]


@pytest.mark.parametrize(
    ("kept", "most", "seen"), [(1, 20, 1), (19, 20, 19), (21, 20, 19), (41, 20, 19), (41, 21, 21), (5, 1, 1), (5, 2, 1)]
)
def test_a_model_sees_the_last_messages_beginning_with_a_question(kept: int, most: int, seen: int) -> None:
    session = talk(*(f"w{n}" for n in range(kept)))
    shown = fitting(session, most_messages=most, most_tokens=PLENTY)
    assert shown == seen
    told = context(session, shown)
    assert told[0] == {"role": "system", "content": "sys"}
    assert told[1]["role"] == "user"
    assert [message["content"] for message in told[1:]] == [f"w{n}" for n in range(kept - seen, kept)]


def test_roles_alternate_whatever_was_interrupted() -> None:
    session = blank(
        messages=(
            Message(role="user", content="q0"), Message(role="assistant", content="", interrupted=True),
            Message(role="user", content="q1"), Message(role="assistant", content="so f", interrupted=True),
            Message(role="user", content="q2"),
        )
    )  # fmt: skip
    assert [(message["role"], message["content"]) for message in context(session, 5)] == [
        ("system", "sys"), ("user", "q0\n\nq1"), ("assistant", "so f"), ("user", "q2"),
    ]  # fmt: skip


def test_what_an_engine_counted_is_known_of_every_message() -> None:
    session = counted(3)
    assert [message.tokens for message in session.messages] == [10] * 6
    assert session.counted == 60


def test_a_counted_history_is_seen_as_long_as_it_fits_to_the_token() -> None:
    session = asked(counted(3, tokens=100), "12345")
    grown = 600 + MESSAGE_TOKENS + (5 + MESSAGE_TOKENS)
    assert fitting(session, most_messages=20, most_tokens=grown) == 7
    assert fitting(session, most_messages=20, most_tokens=grown - 1) == 5


def test_counts_of_another_model_or_another_system_prompt_are_not_used() -> None:
    for other in (asked(counted(2), "q", model="n"), asked(counted(2), "q", system="longer than it was")):
        assert other.counted is None
        assert all(message.tokens is None for message in other.messages)
    assert asked(counted(2), "q", system="sys").counted == 40


def test_a_question_that_was_asked_of_a_shorter_context_has_no_count() -> None:
    session = asked(counted(3), "q3")
    session = answered(session, "a3", usage=Usage(25, 10, 0, None), sent=3)
    assert session.messages[-2].tokens is None
    assert session.messages[-1].tokens == 10
    assert (session.counted, session.window) == (35, 4)


def test_an_interrupted_answer_was_not_counted() -> None:
    session = answered(asked(counted(1), "q"), "so", usage=Usage(30, 1, 0, None), interrupted=True)
    assert (session.counted, session.messages[-1].tokens) == (None, None)


SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=30)


@settings(deadline=None)
@given(SIZES, st.integers(1, 25), st.integers(0, 2000))
def test_what_is_seen_never_has_more_bytes_than_the_context_has_tokens(sizes: list[int], most: int, room: int) -> None:
    session = talk(*("é" * size for size in sizes[: len(sizes) - 1 + len(sizes) % 2]))
    shown = fitting(session, most_messages=most, most_tokens=room)
    assert 1 <= shown <= max(most, 1)
    assert session.messages[-shown].role == "user"
    if shown > 1:
        told = context(session, shown)
        size = sum(len(message["content"].encode()) for message in told)
        assert size + TEMPLATE_TOKENS <= room


@settings(deadline=None)
@given(st.integers(1, 41).map(lambda n: n - 1 + n % 2))
def test_what_an_engine_finds_too_long_becomes_half_of_it_until_one_question_is_left(kept: int) -> None:
    session = talk(*["w"] * kept)
    shown: int | None = kept
    tries = 0
    while shown is not None:
        assert session.messages[-shown].role == "user"
        last, shown = shown, fewer(session, shown)
        tries += 1
        assert shown is None or shown <= last / 2
    assert last == 1
    assert tries <= 6


@pytest.mark.parametrize(
    ("identity", "owner"), [("key:abc", "key:abc"), ("ip:10.0.0.1", "public"), ("anybody", "public")]
)
def test_sessions_belong_to_the_key_or_to_everybody(identity: str, owner: str) -> None:
    assert owner_of(Caller(identity=identity)) == owner
