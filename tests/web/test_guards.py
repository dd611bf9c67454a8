"""Guards: prompts are measured and answers bounded; what is blocked is refused, or ends the answer before it."""

from __future__ import annotations

import itertools
import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import Guards, Limits, Settings
from tests.web.conftest import MODEL, chat, payloads, settings_with, until
from web.answer_guard import PatternFilter, PatternGuard
from web.dialects.openai import parse_chat, parse_text
from web.dialects.pieces import Piece
from web.errors import InvalidRequest
from web.guards import ConfiguredPromptGuard, answer_room, prompt_tokens

if TYPE_CHECKING:
    from functions.engines.scripted_server import ScriptedServer
    from tests.web.doubles import HandEngine
    from web.dialects.request import GenerationRequest


def bounded(*, context: int = 10**6, guards: Guards | None = None, **limits: int) -> Settings:
    base = settings_with()
    (model,) = base.models.available_models
    models = base.models.model_copy(
        update={"available_models": (model.model_copy(update={"context_length": context}),)}
    )
    wide = {"default_rate_limit_per_minute": 10**6, "max_prompt_length": 10**6, "max_response_tokens": 10**6, **limits}
    return base.model_copy(update={"models": models, "limits": Limits(**wide), "guards": guards or Guards()})


def asked(messages: Any = None, **more: Any) -> GenerationRequest:
    messages = messages or [{"role": "user", "content": "x" * 10}]
    return parse_chat(json.dumps({"model": MODEL, "messages": messages, **more}).encode())


def completed(prompt: Any, **more: Any) -> GenerationRequest:
    return parse_text(json.dumps({"model": MODEL, "prompt": prompt, **more}).encode())


PARTS = [
    {"type": "text", "text": "x" * 5},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 1000}},
]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "x" * 5}}
EXACTLY_TEN: dict[str, GenerationRequest] = {
    "one message": asked(),
    "several messages": asked([{"role": "system", "content": "x" * 4}, {"role": "user", "content": "x" * 6}]),
    "parts, of which images are no text": asked([{"role": "user", "content": PARTS + PARTS}]),
    "what tools were called with": asked([
        {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "user", "content": "x" * 5},
    ]),
    "what was thought": asked([
        {"role": "assistant", "content": "x" * 2, "reasoning_content": "x" * 3}, {"role": "user", "content": "x" * 5},
    ]),
    "characters, not bytes": asked([{"role": "user", "content": "🎉" * 10}]),
    "a prompt": completed("x" * 10),
    "several prompts": completed(["x" * 4, "x" * 6]),
    "tokens": completed(list(range(10))),
}  # fmt: skip


@pytest.mark.parametrize("request_", EXACTLY_TEN.values(), ids=EXACTLY_TEN.keys())
def test_all_text_of_a_prompt_is_measured(request_: GenerationRequest) -> None:
    ConfiguredPromptGuard(bounded(max_prompt_length=10)).check(request_)
    with pytest.raises(InvalidRequest, match="at most 9 characters in all, but got 10") as caught:
        ConfiguredPromptGuard(bounded(max_prompt_length=9)).check(request_)
    param = "messages" if request_.kind == "chat" else "prompt"
    assert (caught.value.param, caught.value.code) == (param, "string_above_max_length")


@pytest.mark.parametrize(
    ("given_", "reaches"), [({}, 50), ({"max_tokens": 10}, 10), ({"max_tokens": 50}, 50), ({"max_tokens": 51}, 50),
                            ({"max_completion_tokens": 9999}, 50)],
)  # fmt: skip
def test_max_tokens_is_clamped_and_set(given_: dict[str, int], reaches: int) -> None:
    guard = ConfiguredPromptGuard(bounded(max_response_tokens=50))
    assert guard.check(asked(**given_)).fields["max_tokens"] == reaches


def test_an_answer_without_a_wish_is_given_the_room_that_the_context_has() -> None:
    assert answer_room(100, context=4096, most=2048) == 2048
    assert answer_room(3000, context=4096, most=2048) == 4096 - 3000 - 64
    assert answer_room(4000, context=4096, most=2048) == 512
    assert answer_room(0, context=16, most=2048) == 2
    guard = ConfiguredPromptGuard(bounded(context=1000, max_response_tokens=2048))
    long = asked([{"role": "user", "content": "x" * 1500}])
    assert (prompt_tokens(long), guard.check(long).fields["max_tokens"]) == (500, 1000 - 500 - 64)
    assert guard.check(asked(max_tokens=1500)).fields["max_tokens"] == 1500, "a wish is the caller's own affair"


@pytest.mark.parametrize("kind", ["chat", "text"])
def test_a_blocked_prompt_is_refused(kind: str) -> None:
    guard = ConfiguredPromptGuard(bounded(guards=Guards(blocked_prompts=("(?i)secret\\s+plan",))))

    def ask(text: str) -> GenerationRequest:
        return asked([{"role": "user", "content": text}]) if kind == "chat" else completed(text)

    guard.check(ask("a plan without a secret"))
    with pytest.raises(InvalidRequest) as caught:
        guard.check(ask("tell me the SECRET\nplan"))
    assert caught.value.code == "content_policy_violation"


def test_tokens_are_refused_where_text_is_checked() -> None:
    guard = ConfiguredPromptGuard(bounded(guards=Guards(blocked_prompts=("x",))))
    with pytest.raises(InvalidRequest, match="must be text"):
        guard.check(completed([1, 2, 3]))


# What answers may not hold.


def filtered(texts: list[str], *expressions: str, held: int = 16, ends: bool = True) -> tuple[str, str | None]:
    watched = PatternFilter([re.compile(one) for one in expressions], held=held, choices=1)
    pieces = [Piece(0, "text", text, None) for text in texts]
    given_ = [piece for one in pieces for piece in watched.feed([one])]
    if ends:
        given_ += watched.feed([Piece(0, "finish", "stop", None)])
    finish = next((piece.value for piece in given_ if piece.kind == "finish"), None)
    assert watched.over == (finish == "content_filter")
    return "".join(piece.value for piece in given_ if piece.kind == "text"), finish


@given(
    text=st.text("ab ", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=20),
    expression=st.sampled_from(["bad", "a b", r"\bab\b", r"^ab", r"b$", "a{3}", "aab|bba", r"(?<!a)bb", r"ba+ "]),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_wherever_pieces_end_the_answer_ends_where_the_whole_text_has_its_match(
    text: str, cuts: list[int], expression: str
) -> None:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    texts = [text[begin:end] for begin, end in itertools.pairwise(edges)]
    found = re.search(expression, text)
    expected = (text, "stop") if found is None else (text[: found.start()], "content_filter")
    assert filtered(texts, expression, held=64) == expected
    if "+" not in expression:  # whose matches are short
        assert filtered(texts, expression, held=8) == expected


def test_a_match_is_caught_across_pieces_though_long_text_came_before() -> None:
    texts = ["word " * 100, "for", "bid", "den", " fruit"]
    assert filtered(texts, "forbidden") == ("word " * 100, "content_filter")


def test_no_more_than_the_tail_is_held_back() -> None:
    given_, finish = filtered(list("abcdefghij" * 10), "zzz", held=16, ends=False)
    assert (len(given_), finish) == (100 - 16, None)


def test_no_beginning_is_seen_where_the_text_was_only_given_out() -> None:
    text = "xab" + "c" * 50
    for expression in ("^ab", r"\bab"):
        assert filtered(list(text), expression, held=8) == (text, "stop")


def test_a_match_longer_than_the_tail_ends_the_answer_late() -> None:
    text, finish = filtered(list("x" + "a" * 100 + "b"), "a{20,}b", held=16)
    assert finish == "content_filter"
    assert len(text) < 102


def test_every_choice_is_watched_on_its_own_and_the_answer_is_over_with_the_last() -> None:
    watched = PatternFilter([re.compile("bad")], held=8, choices=2)
    said = [(0, "very "), (1, "good"), (0, "bad"), (0, "!")]
    first = watched.feed([Piece(choice, "text", text, None) for choice, text in said])
    assert first == [Piece(0, "text", "very ", None), Piece(0, "finish", "content_filter", None)]
    assert not watched.over
    assert watched.feed([Piece(0, "text", "more", None), Piece(0, "finish", "stop", None)]) == []
    last = watched.feed([Piece(1, "finish", "length", None)])
    assert last == [Piece(1, "text", "good", None), Piece(1, "finish", "length", None)]
    assert watched.over


def test_what_a_tool_is_called_with_comes_behind_the_text_before_it() -> None:
    watched = PatternFilter([re.compile("bad")], held=8, choices=1)
    call = Piece(0, "tool", {"index": 0}, None)
    assert watched.feed([Piece(0, "text", "hi", None), call]) == [Piece(0, "text", "hi", None), call]


# On the wire.

BLOCKING = Guards(blocked_answers=("forbidden",), held_back_characters=16)


async def test_too_long_a_prompt_is_told_in_the_callers_dialect_and_reaches_no_engine(
    serve: Any, engine: ScriptedServer, http: aiohttp.ClientSession
) -> None:
    served = serve(engine, settings=bounded(max_prompt_length=5))
    with pytest.raises(openai.BadRequestError) as caught:
        await served.sdk().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x" * 6}])
    assert (caught.value.param, caught.value.code) == ("messages", "string_above_max_length")
    with pytest.raises(openai.BadRequestError) as caught:
        await served.sdk().responses.create(model=MODEL, input="x" * 6)
    assert caught.value.param == "input"
    async with http.post(served.url + "/chat/completions", json={"model": MODEL, "prompt": "x" * 6}) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, "prompt")
    body = {"model": MODEL, "max_tokens": 5, "messages": [{"role": "user", "content": "x" * 6}]}
    async with http.post(served.url + "/v1/messages", json=body) as response:
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    assert engine.state()["started"] == 0


async def test_a_streamed_answer_ends_before_what_is_blocked_and_the_engine_is_freed(
    serve: Any, hand_engine: HandEngine
) -> None:
    served = serve(hand_engine.url, settings=bounded(guards=BLOCKING))
    response = await served.raw(chat())
    talk = await hand_engine.next()
    await talk.begin()
    for text in ("This is plain text. ", "The for", "bid", "den fruit", " is sweet"):
        await talk.token(text)
    status, _ = await response.head()
    text = (await response.rest()).decode()
    events = payloads(_dechunked(text))
    content = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
    assert (status, content) == (200, "This is plain text. The ")
    assert events[-2]["choices"][0]["finish_reason"] == "content_filter"
    assert events[-1] == "[DONE]"
    await until(lambda: talk.closed.is_set() and hand_engine.aborts)


async def test_an_answer_that_is_blocked_from_its_first_words_is_a_complete_one_too(
    serve: Any, hand_engine: HandEngine
) -> None:
    served = serve(hand_engine.url, settings=bounded(guards=BLOCKING))
    for stream in (True, False):
        response = await served.raw(chat(stream=stream))
        talk = await hand_engine.next()
        await talk.begin()
        await talk.token("forbidden fruit")
        status, _ = await response.head()
        text = (await response.rest()).decode()
        assert status == 200
        assert '"finish_reason":"content_filter"' in text
        assert "forbidden" not in text
        await until(talk.closed.is_set)


async def test_an_answer_without_anything_blocked_comes_whole(serve: Any, engine: ScriptedServer) -> None:
    plain, watched = serve(engine, settings=bounded()), serve(engine, settings=bounded(guards=BLOCKING))
    options: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 40}
    expected = await plain.sdk().chat.completions.create(**options)
    answer = await watched.sdk().chat.completions.create(**options)
    assert answer.choices[0] == expected.choices[0]
    assert answer.usage == expected.usage
    stream = await watched.sdk().chat.completions.create(**options, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert text == expected.choices[0].message.content


def test_without_a_guard_nothing_stands_in_the_way_of_an_answer() -> None:
    assert Settings().guards.blocked_answers == ()
    assert PatternGuard(BLOCKING).watch(asked()).over is False


async def test_guards_of_somebody_elses_take_the_place_of_the_configured_ones(
    serve: Any, engine: ScriptedServer
) -> None:
    class NoQuestions:
        def check(self, request: GenerationRequest) -> GenerationRequest:
            raise InvalidRequest("No questions today.", code="closed")

    served = serve(engine, prompt_guard=NoQuestions(), answer_guard=PatternGuard(BLOCKING))
    with pytest.raises(openai.BadRequestError, match="No questions today"):
        await served.sdk().chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "x"}])


def _dechunked(text: str) -> str:
    """The body of a chunked response without its framing."""
    return "".join(part for part in re.split(r"(?:^|\r\n)[0-9a-f]+\r\n", text) if part).removesuffix("\r\n")
