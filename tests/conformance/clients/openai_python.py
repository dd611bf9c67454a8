"""openai-python as any 1.x user writes it: only what version 1.0.0 has. Newer fields travel as `extra_body`."""

from __future__ import annotations

import inspect
import json
from typing import Any

import openai
from harness import Target, check, holds, same, scripted

HELLO: Any = [{"role": "user", "content": "one two three"}]
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at a place",
        "parameters": {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]},
    },
}
PLACE = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"], "additionalProperties": False}
PLACE_FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": PLACE}}
LONG = {"gap": 0.02, "tokens": 5000}
"""A script of 100 seconds: who asks for it means to leave."""


def client(target: Target, **options: Any) -> openai.OpenAI:
    given = {"api_key": target.api_key, "max_retries": 0, "timeout": 25.0, **options}
    return openai.OpenAI(base_url=f"{target.url}/v1", **given)


def ask(target: Target, **more: Any) -> Any:
    """A chat request. What this release's `create` does not take by name travels in the body all the same."""
    create = client(target, **more.pop("options", {})).chat.completions.create
    known = inspect.signature(create).parameters
    given = {"model": target.model, "messages": HELLO, "max_tokens": 32, **more}
    newer = {name: given.pop(name) for name in list(given) if name not in known}
    body = {**newer, **given.pop("extra_body", {})}
    return create(**given, extra_body=body)


def joined(stream: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@check()
def a_plain_chat_is_answered(target: Target) -> None:
    answer = ask(target)
    same(answer.object, "chat.completion")
    same(answer.choices[0].message.role, "assistant")
    holds(answer.choices[0].message.content)
    holds(answer.choices[0].finish_reason in ("stop", "length"), answer.choices[0].finish_reason)
    same(answer.model, target.model)


@check()
def a_stream_is_read_to_its_end(target: Target) -> None:
    chunks = list(ask(target, stream=True))
    holds("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    same(chunks[0].choices[0].delta.role, "assistant")
    holds(chunks[-1].choices[0].finish_reason in ("stop", "length"))
    same(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)


@check("scripted")
def a_stream_and_a_plain_answer_say_the_same_words(target: Target) -> None:
    text = 'Grüße, 世界! "quoted" \\ and\nlines 🎈'
    same(ask(target, extra_body=scripted(text=text)).choices[0].message.content, text)
    same(joined(ask(target, stream=True, extra_body=scripted(text=text))), text)


@check()
def usage_tells_cached_tokens_always(target: Target) -> None:
    usage = ask(target).usage.model_dump()
    same(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
    holds(usage["prompt_tokens_details"]["cached_tokens"] >= 0)


@check()
def a_streams_usage_comes_last_and_with_no_choice(target: Target) -> None:
    chunks = list(ask(target, stream=True, extra_body={"stream_options": {"include_usage": True}}))
    same(chunks[-1].choices, [])
    told = [chunk.model_dump().get("usage") for chunk in chunks]
    same(told[:-1], [None] * (len(chunks) - 1))
    holds(told[-1]["completion_tokens"] > 0 and "cached_tokens" in told[-1]["prompt_tokens_details"], told[-1])


@check("scripted")
def cached_tokens_are_the_engines(target: Target) -> None:
    usage = ask(target, extra_body=scripted(cached_tokens=2)).usage.model_dump()
    same(usage["prompt_tokens_details"]["cached_tokens"], 2)


@check("scripted")
def a_tool_is_called_and_its_result_understood(target: Target) -> None:
    calls = [{"name": "look", "arguments": '{"at": 7}'}]
    first = ask(target, tools=[LOOK], extra_body=scripted(text="", tool_calls=calls)).choices[0]
    same((first.finish_reason, first.message.content), ("tool_calls", None))
    (call,) = calls_of(first.message)
    same(call["type"], "function")
    same((call["function"]["name"], json.loads(call["function"]["arguments"])), ("look", {"at": 7}))
    result = {"role": "tool", "tool_call_id": call["id"], "content": "a tree"}
    second = ask(target, messages=[*HELLO, first.message.model_dump(exclude_none=True), result], tools=[LOOK])
    holds(second.choices[0].message.content)


def calls_of(message: Any) -> list[dict[str, Any]]:
    """The tool calls of a message or a delta, as plain objects: version 1.0.0 has no class for them."""
    return message.model_dump().get("tool_calls") or []


@check("scripted")
def an_assistants_null_content_beside_tool_calls_is_taken(target: Target) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    turn: Any = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "a tree"}]}
    holds(ask(target, messages=[*HELLO, turn, result], tools=[LOOK]).choices[0].message.content)


@check("scripted")
def parallel_tool_calls_are_streamed_by_index(target: Target) -> None:
    calls = [{"name": "look", "arguments": '{"at": 1}'}, {"name": "look", "arguments": '{"at": 2}'}]
    stream = ask(target, stream=True, tools=[LOOK], extra_body=scripted(text="", tool_calls=calls))
    told: dict[int, str] = {}
    names: dict[int, str] = {}
    finishes = []
    for chunk in stream:
        for piece in calls_of(chunk.choices[0].delta):
            holds(isinstance(piece["index"], int), piece)
            names.setdefault(piece["index"], piece["function"].get("name"))
            told[piece["index"]] = told.get(piece["index"], "") + (piece["function"]["arguments"] or "")
        finishes.append(chunk.choices[0].finish_reason)
    same((names, told), ({0: "look", 1: "look"}, {0: '{"at": 1}', 1: '{"at": 2}'}))
    same(finishes[-1], "tool_calls")


@check("tools")
def a_required_tool_is_called(target: Target) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "look"}}):
        answer = ask(target, tools=[LOOK], tool_choice=choice, max_tokens=200, model=target.tool_model)
        (call,) = calls_of(answer.choices[0].message)
        same(call["function"]["name"], "look")
        holds(isinstance(json.loads(call["function"]["arguments"])["at"], int), call)


@check("tools")
def no_tool_is_called_where_none_is_wanted(target: Target) -> None:
    for more in ({"tools": []}, {"tools": [LOOK], "tool_choice": "none"}):
        same(calls_of(ask(target, model=target.tool_model, **more).choices[0].message), [])


@check("scripted")
def a_json_schema_is_handed_to_the_engine_and_answered(target: Target) -> None:
    answer = ask(target, extra_body={"response_format": PLACE_FORMAT, **scripted(text='{"at": 3}')})
    same(json.loads(answer.choices[0].message.content), {"at": 3})
    stream = ask(target, stream=True, extra_body={"response_format": {"type": "json_object"}, **scripted(text="{}")})
    same(joined(stream), "{}")


@check("scripted")
def every_optional_field_may_be_null_and_unknown_ones_are_ignored(target: Target) -> None:
    nulls = (
        "temperature top_p n stop max_tokens max_completion_tokens presence_penalty frequency_penalty logit_bias user "
        "seed tools tool_choice response_format logprobs top_logprobs stream_options parallel_tool_calls metadata store"
    )
    body = dict.fromkeys(nulls.split()) | {"a_field_of_next_year": {"x": [1]}} | scripted(tokens=2)
    same(ask(target, extra_body=body).choices[0].message.content, "t0 t1 ")


@check("scripted")
def what_openai_takes_is_taken(target: Target) -> None:
    ways: list[dict[str, Any]] = [
        {"messages": [{"role": "developer", "content": "be brief"}, *HELLO]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "parts"}]}]},
        {"temperature": 0},
        {"stop": "x"}, {"stop": ["a", "b", "c", "d"]},
        {"extra_body": {"max_completion_tokens": 4, "seed": 7, "prompt_cache_key": "mine", "service_tier": "auto"}},
        {"extra_body": {"store": True, "metadata": {"a": "b"}, "user": "someone"}},
        {"extra_body": {"logprobs": True}}, {"extra_body": {"logprobs": True, "top_logprobs": 2}},
        {"logit_bias": {"50": -100}, "presence_penalty": 0.5, "frequency_penalty": -0.5},
        {"response_format": {"type": "text"}},
    ]  # fmt: skip
    for way in ways:
        holds(ask(target, **way).choices[0].message.content, way)


@check("scripted")
def max_completion_tokens_wins_over_max_tokens(target: Target) -> None:
    answer = ask(target, max_tokens=9, extra_body={"max_completion_tokens": 2})
    same((answer.choices[0].message.content, answer.choices[0].finish_reason), ("t0 t1 ", "length"))


@check("scripted")
def several_choices_and_their_log_probabilities_are_told_apart(target: Target) -> None:
    answer = ask(target, n=2, extra_body={"logprobs": True, "top_logprobs": 1, **scripted(tokens=2)})
    same([choice.index for choice in answer.choices], [0, 1])
    told = answer.choices[1].model_dump()["logprobs"]["content"]
    same([entry["token"] for entry in told], ["t0 ", "t1 "])


@check("scripted")
def reasoning_is_told_apart_from_the_answer(target: Target) -> None:
    script = scripted(reasoning="let me see", text="yes")
    message = ask(target, extra_body=script).choices[0].message.model_dump()
    same((message["reasoning_content"], message["content"]), ("let me see", "yes"))
    deltas = [chunk.choices[0].delta.model_dump() for chunk in ask(target, stream=True, extra_body=script)]
    same("".join(delta.get("reasoning_content") or "" for delta in deltas), "let me see")


@check()
def a_completion_continues_its_prompt(target: Target) -> None:
    completions = client(target).completions
    whole = completions.create(model=target.model, prompt="one two", max_tokens=4)
    same(whole.object, "text_completion")
    holds(whole.choices[0].text)
    pieces = [chunk.choices[0].text for chunk in completions.create(
        model=target.model, prompt="one two", max_tokens=4, stream=True)]  # fmt: skip
    holds("".join(pieces))


@check()
def every_prompt_of_a_list_is_continued(target: Target) -> None:
    asked: Any = {"model": target.model, "prompt": ["one two", "three"], "max_tokens": 4}
    answer = client(target).completions.create(**asked)
    same(sorted(choice.index for choice in answer.choices), [0, 1])
    told = {chunk.choices[0].index for chunk in client(target).completions.create(**asked, stream=True)}
    same(told, {0, 1})


@check()
def the_models_are_listed_and_found(target: Target) -> None:
    models = client(target).models
    listed = [model.id for model in models.list()]
    holds(listed)
    for label in {target.model, listed[0]}:
        same(models.retrieve(label).object, "model")


@check("embeddings")
def a_text_and_a_list_of_texts_are_embedded(target: Target) -> None:
    embeddings = client(target).embeddings
    one = embeddings.create(model=target.embedding_model, input="a tree")
    holds(len(one.data[0].embedding) > 0 and one.usage.prompt_tokens > 0)
    several = embeddings.create(model=target.embedding_model, input=["a tree", "a house"], encoding_format="float")
    same([item.index for item in several.data], [0, 1])
    # The SDK asks for base64 by itself, so the two answers came in two encodings.
    near = zip(one.data[0].embedding, several.data[0].embedding, strict=True)
    holds(all(abs(a - b) < 1e-6 for a, b in near), "base64 and floats agree")
