"""openai-python as it is now: its parsers and helpers, its asynchronous client, the Responses API."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import openai
from harness import SINGLE, Target, check, holds, same, scripted
from openai_python import HELLO, LONG, LOOK, client
from openai_python_errors import freed
from pydantic import BaseModel, Field


class Place(BaseModel):
    """What ends by itself, also of a model that would write digits for ever."""

    at: Annotated[int, Field(ge=0, le=9)]


FLAT_LOOK: Any = {"type": "function", "strict": False, **LOOK["function"]}
"""A tool as the Responses API has it."""


@check("scripted")
def a_model_class_is_parsed_from_the_answer(target: Target) -> None:
    answer = client(target).chat.completions.parse(
        model=target.model, messages=HELLO, response_format=Place, extra_body=scripted(text='{"at": 3}')
    )
    same(answer.choices[0].message.parsed, Place(at=3))


@check("tools")
def a_model_class_is_enforced_by_whatever_engine(target: Target) -> None:
    answer = client(target).chat.completions.parse(model=target.tool_model, messages=HELLO, response_format=Place)
    holds(isinstance(answer.choices[0].message.parsed, Place))


@check("scripted")
def the_stream_helper_puts_events_and_the_final_answer_together(target: Target) -> None:
    calls = [{"name": "look", "arguments": '{"at": 1}'}]
    body = scripted(text="well", tool_calls=calls)
    asked: Any = {"model": target.model, "messages": HELLO, "tools": [LOOK]}
    with client(target).chat.completions.stream(**asked, extra_body=body) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    same(kinds >= {"content.delta", "content.done", "tool_calls.function.arguments.delta"}, True)
    same((message.content, json.loads(message.tool_calls[0].function.arguments)), ("well", {"at": 1}))


@check("scripted")
def the_request_id_is_on_the_answer(target: Target) -> None:
    answer = client(target).chat.completions.create(model=target.model, messages=HELLO)
    holds(answer._request_id)


@check("limits")
def the_sdk_would_wait_for_a_limit_as_long_as_it_is_told(target: Target) -> None:
    """Over 60 s (in older releases) the SDK falls back to guessing: then `Retry-After` was for nothing."""
    limited = client(target, api_key=target.limited_key)
    for _ in range(20):
        try:
            limited.chat.completions.create(model=target.model, messages=HELLO, max_tokens=1)
        except openai.RateLimitError as error:
            told = error.response.headers
            wait = limited._parse_retry_after_header(told)
            holds(wait is not None and 0 < wait <= 60 and wait <= float(told["retry-after"]) + 1, told)
            holds(limited._should_retry(error.response), told)
            return
    raise AssertionError("no limit was met")


@check("single")
def cancelling_a_task_in_mid_stream_frees_the_engine(target: Target) -> None:
    async def leave() -> None:
        body = scripted(**LONG)
        own = openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key=target.api_key, max_retries=0)
        async with own as asynchronous:
            begun = asyncio.Event()

            async def read() -> None:
                stream = await asynchronous.chat.completions.create(
                    model=SINGLE, messages=HELLO, stream=True, max_tokens=5000, extra_body=body
                )
                async for _ in stream:
                    begun.set()

            task = asyncio.create_task(read())
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(freed, target)

    asyncio.run(leave())


@check("single")
def cancelling_a_plain_request_frees_the_engine(target: Target) -> None:
    async def leave() -> None:
        own = openai.AsyncOpenAI(base_url=f"{target.url}/v1", api_key=target.api_key, max_retries=0)
        async with own as asynchronous:
            body = scripted(**LONG)
            asked = asynchronous.chat.completions.create(model=SINGLE, messages=HELLO, max_tokens=5000, extra_body=body)
            await asyncio.wait([task := asyncio.ensure_future(asked)], timeout=0.5)
            task.cancel()
            await asyncio.wait([task])
            await asyncio.to_thread(freed, target)

    asyncio.run(leave())


def respond(target: Target, **more: Any) -> Any:
    asked = {"model": target.model, "input": "one two three", "max_output_tokens": 32, "store": False, **more}
    return client(target).responses.create(**asked)


@check("responses")
def a_response_is_answered_with_its_usage(target: Target) -> None:
    answer = respond(target)
    same((answer.object, answer.output[-1].type), ("response", "message"))
    holds(answer.output_text and answer.status in ("completed", "incomplete"), answer.status)
    holds(answer.usage.output_tokens > 0 and answer.usage.input_tokens_details.cached_tokens >= 0)


@check("responses", "scripted")
def a_responses_events_come_in_order_and_are_numbered(target: Target) -> None:
    events = list(respond(target, stream=True, extra_body=scripted(tokens=3)))
    same([event.sequence_number for event in events], [*range(len(events))])
    deltas = [event.type for event in events if event.type == "response.output_text.delta"]
    rest = [event.type for event in events if event.type not in deltas]
    same(rest, [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ])  # fmt: skip
    same(events[-1].response.output_text, "t0 t1 t2 ")


@check("responses", "scripted")
def a_responses_stream_helper_ends_with_the_whole_response(target: Target) -> None:
    asked: Any = {"model": target.model, "input": "one two three", "store": False}
    with client(target).responses.stream(**asked, extra_body=scripted(tokens=3)) as stream:
        for _ in stream:
            pass
        same(stream.get_final_response().output_text, "t0 t1 t2 ")


@check("responses", "scripted")
def a_function_is_called_and_its_output_understood_by_responses(target: Target) -> None:
    body = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    first = respond(target, tools=[FLAT_LOOK], extra_body=body)
    (call,) = [item for item in first.output if item.type == "function_call"]
    same((call.name, json.loads(call.arguments)), ("look", {"at": 7}))
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "a tree"}
    question = {"role": "user", "content": "where?"}
    second = respond(target, input=[question, call.model_dump(exclude_none=True), output], tools=[FLAT_LOOK])
    holds(second.output_text)


@check("responses")
def a_stored_response_is_gone_on_from_listed_and_deleted(target: Target) -> None:
    first = respond(target, store=True)
    same(client(target).responses.retrieve(first.id).output_text, first.output_text)
    second = respond(target, store=True, previous_response_id=first.id, input="four")
    items = list(client(target).responses.input_items.list(second.id, order="asc", limit=2))
    same([item.id for item in items][1:-1], [item.id for item in first.output])
    same([items[index].content[0].text for index in (0, -1)], ["one two three", "four"])
    for one in (first, second):
        client(target).responses.delete(one.id)
        try:
            client(target).responses.retrieve(one.id)
        except openai.NotFoundError as error:
            same(error.code, "response_not_found")
        else:
            raise AssertionError("it is there")


@check("responses")
def a_conversation_holds_what_was_said_in_its_responses(target: Target) -> None:
    talks = client(target).conversations
    talk = talks.create(items=[{"role": "user", "content": "zero"}], metadata={"a": "b"})
    answer = respond(target, conversation=talk.id)
    same(answer.conversation.id, talk.id)
    said = list(talks.items.list(talk.id, order="asc", limit=2))
    same([item.content[0].text for item in said[:2]], ["zero", "one two three"])
    same([item.id for item in said[2:]], [item.id for item in answer.output])
    same(talks.retrieve(talk.id).metadata, {"a": "b"})
    holds(talks.delete(talk.id).deleted)


@check("responses", "scripted")
def a_response_is_parsed_into_a_model_class(target: Target) -> None:
    answer = client(target).responses.parse(
        model=target.model, input="where?", text_format=Place, store=False, extra_body=scripted(text='{"at": 3}')
    )
    same(answer.output_parsed, Place(at=3))


@check("responses", "scripted")
def a_response_that_is_cut_is_incomplete(target: Target) -> None:
    answer = respond(target, max_output_tokens=16, extra_body=scripted(tokens=99))
    same((answer.status, answer.incomplete_details.reason), ("incomplete", "max_output_tokens"))


@check("responses", "scripted")
def a_responses_stream_that_breaks_tells_so(target: Target) -> None:
    try:
        kinds = [event.type for event in respond(target, stream=True, extra_body=scripted(error_after=2))]
    except openai.APIError as error:
        holds(error.message)
    else:
        holds(kinds[-1] in ("response.failed", "error"), kinds)


@check("responses")
def a_responses_error_is_a_bad_request_that_names_the_field(target: Target) -> None:
    try:
        respond(target, temperature="warm")
    except openai.BadRequestError as error:
        same((error.param, error.type), ("temperature", "invalid_request_error"))
    else:
        raise AssertionError("no error")
    try:
        respond(target, model="no/such-model")
    except openai.NotFoundError as error:
        same(error.code, "model_not_found")
    else:
        raise AssertionError("no error")


@check("keepalive", "responses")
def a_response_that_takes_long_is_understood(target: Target) -> None:
    same(respond(target, extra_body=scripted(ttft=1.2, text="at last")).output_text, "at last")
