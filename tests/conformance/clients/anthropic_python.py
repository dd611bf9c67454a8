"""Anthropic's SDK on `/v1/messages`."""

from __future__ import annotations

from typing import Any

import anthropic
from harness import COLD, FULL, SINGLE, Target, check, cool, freed_within, holds, same, scripted

HELLO: Any = [{"role": "user", "content": "one two three"}]
LOOK: Any = {
    "name": "look",
    "description": "Look at a place",
    "input_schema": {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]},
}
LONG = {"gap": 0.02, "tokens": 5000}


def client(target: Target, **options: Any) -> anthropic.Anthropic:
    given = {"api_key": target.api_key, "max_retries": 0, "timeout": 25.0, **options}
    return anthropic.Anthropic(base_url=target.url, **given)


def ask(target: Target, **more: Any) -> Any:
    own = client(target, **more.pop("options", {}))
    return own.messages.create(**{"model": target.model, "messages": HELLO, "max_tokens": 32, **more})


def refused(kind: type[anthropic.APIStatusError], target: Target, **more: Any) -> Any:
    try:
        answer = ask(target, **more)
    except kind as error:
        same(type(error), kind)
        body = error.response.json()
        same((body["type"], set(body["error"]) >= {"type", "message"}), ("error", True))
        holds(body["request_id"] == error.response.headers["x-request-id"], body)
        holds(body["error"]["message"], body)
        return error
    raise AssertionError(f"no {kind.__name__}: {answer}")


@check("messages")
def a_plain_message_is_answered(target: Target) -> None:
    answer = ask(target)
    same((answer.type, answer.role, answer.content[0].type), ("message", "assistant", "text"))
    holds(answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens"), answer)
    holds(answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer.usage)


@check("messages", "scripted")
def a_stream_has_anthropics_events_in_their_order(target: Target) -> None:
    kinds = [event.type for event in ask(target, stream=True, extra_body=scripted(tokens=3)) if event.type != "ping"]
    once = [kind for index, kind in enumerate(kinds) if index == 0 or kinds[index - 1] != kind]
    same(once, [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ])  # fmt: skip


@check("messages", "scripted")
def the_stream_helper_puts_the_message_together(target: Target) -> None:
    asked: Any = {"model": target.model, "messages": HELLO, "max_tokens": 32}
    with client(target).messages.stream(**asked, extra_body=scripted(tokens=3)) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    same((said, final.content[0].text, final.stop_reason), ("t0 t1 t2 ", "t0 t1 t2 ", "end_turn"))
    holds(final.usage.output_tokens == 3, final.usage)


@check("messages", "scripted")
def cached_tokens_are_told_as_anthropic_tells_them(target: Target) -> None:
    usage = ask(target, extra_body=scripted(cached_tokens=2)).usage
    same((usage.cache_read_input_tokens, usage.input_tokens), (2, 1))


@check("messages", "scripted")
def a_tool_is_used_and_its_result_understood(target: Target) -> None:
    body = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    first = ask(target, tools=[LOOK], extra_body=body)
    same(first.stop_reason, "tool_use")
    (use,) = [block for block in first.content if block.type == "tool_use"]
    same((use.name, use.input), ("look", {"at": 7}))
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "a tree"}
    turns = [*HELLO, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    holds(ask(target, messages=turns, tools=[LOOK]).content[0].text)


@check("messages", "scripted")
def a_tools_input_is_streamed_as_json(target: Target) -> None:
    asked: Any = {"model": target.model, "messages": HELLO, "max_tokens": 32, "tools": [LOOK]}
    body = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    with client(target).messages.stream(**asked, extra_body=body) as stream:
        final = stream.get_final_message()
    same((final.content[-1].type, final.content[-1].input), ("tool_use", {"at": 7}))


@check("messages", "tools")
def a_forced_tool_is_used(target: Target) -> None:
    for choice in ({"type": "any"}, {"type": "tool", "name": "look"}):
        answer = ask(target, tools=[LOOK], tool_choice=choice, max_tokens=200, model=target.tool_model)
        same([block.name for block in answer.content if block.type == "tool_use"], ["look"])


@check("messages", "scripted")
def what_anthropic_takes_is_taken(target: Target) -> None:
    ways: list[dict[str, Any]] = [
        {"system": "be brief"}, {"system": [{"type": "text", "text": "be brief"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "parts"}]}]},
        {"extra_body": {"temperature": 0}}, {"extra_body": {"top_p": 0.5, "top_k": 5}}, {"stop_sequences": ["x"]},
        {"metadata": {"user_id": "someone"}}, {"extra_body": {"a_field_of_next_year": 1}},
        {"tools": [LOOK], "tool_choice": {"type": "auto"}},
        {"system": [{"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}]},
    ]  # fmt: skip
    for way in ways:
        holds(ask(target, **way).content[0].text, way)


@check("messages")
def tokens_are_counted(target: Target) -> None:
    counted = client(target).messages.count_tokens(model=target.model, messages=HELLO)
    holds(counted.input_tokens > 0)


@check("messages", "keys")
def a_key_works_as_x_api_key_and_as_bearer(target: Target) -> None:
    holds(ask(target).content)
    holds(ask(target, options={"api_key": None, "auth_token": target.api_key}).content)


@check("messages", "keys")
def a_wrong_key_is_an_authentication_error(target: Target) -> None:
    error = refused(anthropic.AuthenticationError, target, options={"api_key": "sk-nobody"})
    same(error.response.json()["error"]["type"], "authentication_error")


@check("messages")
def an_unknown_model_is_a_not_found_error(target: Target) -> None:
    error = refused(anthropic.NotFoundError, target, model="no/such-model")
    same(error.response.json()["error"]["type"], "not_found_error")


@check("messages")
def a_wrong_type_is_a_bad_request_error_that_names_the_field(target: Target) -> None:
    for more in ({"max_tokens": "many"}, {"messages": [{"role": "user", "content": 7}]}):
        error = refused(anthropic.BadRequestError, target, **more)
        same(error.response.json()["error"]["type"], "invalid_request_error")
        holds(next(iter(more)) in error.response.json()["error"]["message"], error)


@check("messages")
def max_tokens_is_required(target: Target) -> None:
    try:
        client(target).post("/v1/messages", body={"model": target.model, "messages": HELLO}, cast_to=object)
    except anthropic.BadRequestError as error:
        holds("max_tokens" in error.message)
    else:
        raise AssertionError("no error")


@check("messages", "small-bodies")
def a_body_that_is_too_large_is_an_error_with_a_status(target: Target) -> None:
    try:
        ask(target, messages=[{"role": "user", "content": "x" * 1_500_000}])
    except anthropic.APIStatusError as error:
        same((error.status_code, error.response.json()["error"]["type"]), (413, "request_too_large"))
    else:
        raise AssertionError("no error")


@check("messages", "limits")
def a_rate_limit_is_an_error_that_says_when_to_come_back(target: Target) -> None:
    for _ in range(20):
        try:
            ask(target, options={"api_key": target.limited_key}, max_tokens=1)
        except anthropic.RateLimitError as error:
            same(error.response.json()["error"]["type"], "rate_limit_error")
            holds(0 < float(error.response.headers["retry-after"]) <= 60)
            return
    raise AssertionError("no limit was met")


@check("messages", "scripted")
def a_full_engine_is_an_overloaded_error_worth_a_retry(target: Target) -> None:
    try:
        ask(target, model=FULL)
    except anthropic.InternalServerError as error:
        holds(error.status_code in (503, 529), error.status_code)
        holds(error.response.json()["error"]["type"] in ("overloaded_error", "api_error"))
        holds(0 < float(error.response.headers["retry-after"]) <= 60)
    else:
        raise AssertionError("no error")


@check("messages", "scripted")
def a_stream_that_breaks_raises_and_never_ends_quietly(target: Target) -> None:
    for script in (scripted(error_after=2), scripted(cut_after=2)):
        kinds = []
        try:
            for event in ask(target, stream=True, extra_body=script):
                kinds.append(event.type)
        except anthropic.APIError as error:
            holds(error.message and "message_start" in kinds, (error, kinds))
        else:
            raise AssertionError(f"ended quietly after {kinds}")


@check("messages", "single")
def leaving_a_stream_frees_the_engine(target: Target) -> None:
    stream = ask(target, model=SINGLE, stream=True, max_tokens=5000, extra_body=scripted(**LONG))
    while next(stream).type != "content_block_delta":
        pass
    stream.close()
    freed_within(60.0, lambda: ask(target, model=SINGLE, extra_body=scripted(tokens=1)), anthropic.InternalServerError)


@check("messages", "cold")
def a_cold_model_is_no_error(target: Target) -> None:
    cool(target)
    holds(ask(target, model=COLD).content[0].text)
    cool(target)
    holds([event.type for event in ask(target, model=COLD, stream=True)][-1] == "message_stop")


@check("messages", "keepalive")
def a_plain_answer_that_takes_long_is_understood(target: Target) -> None:
    same(ask(target, extra_body=scripted(ttft=1.2, text="at last")).content[0].text, "at last")


@check("messages", "keepalive")
def a_plain_answer_that_fails_late_is_an_error(target: Target) -> None:
    try:
        answer = ask(target, extra_body=scripted(ttft=1.2, error_after=0))
    except anthropic.APIError as error:
        holds(str(error))
    else:
        raise AssertionError(f"taken for an answer: {answer}")
