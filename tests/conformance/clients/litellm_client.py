"""LiteLLM as a client: its own exceptions, its own idea of chunks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
from harness import COLD, FULL, SINGLE, Target, check, cool, freed_within, holds, same, scripted

HELLO = [{"role": "user", "content": "one two three"}]
PARAMETERS = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}
LOOK = {"type": "function", "function": {"name": "look", "description": "Look at a place", "parameters": PARAMETERS}}
LONG = {"gap": 0.02, "tokens": 5000}


def settings(target: Target) -> dict[str, Any]:
    return {"api_base": f"{target.url}/v1", "api_key": target.api_key, "max_retries": 0, "timeout": 25}


def ask(target: Target, script: dict[str, Any] | None = None, **more: Any) -> Any:
    model = more.pop("model", target.model)
    given = {"messages": HELLO, "max_tokens": 32, "extra_body": script or {}, **settings(target), **more}
    return litellm.completion(model=f"openai/{model}", **given)


def refused(kind: type[Exception], target: Target, **more: Any) -> Any:
    try:
        answer = ask(target, **more)
    except kind as error:
        same(type(error), kind)
        holds(error.message, error)
        return error
    raise AssertionError(f"no {kind.__name__}: {answer}")


@check()
def a_plain_chat_is_answered(target: Target) -> None:
    answer = ask(target)
    holds(answer.choices[0].message.content and answer.choices[0].finish_reason in ("stop", "length"), answer)


@check()
def a_stream_is_read_to_its_end_with_its_usage(target: Target) -> None:
    chunks = list(ask(target, stream=True, stream_options={"include_usage": True}))
    holds("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))
    whole = litellm.stream_chunk_builder(chunks)
    holds(whole.usage.completion_tokens > 0, whole)


@check()
def an_asynchronous_stream_is_read_to_its_end(target: Target) -> None:
    async def read() -> str:
        asked: Any = {"model": f"openai/{target.model}", "messages": HELLO, "max_tokens": 32, **settings(target)}
        stream = await litellm.acompletion(**asked, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    holds(asyncio.run(read()))


@check("scripted")
def the_same_words_streamed_and_plain(target: Target) -> None:
    text = 'Grüße, 世界! "quoted" 🎈'
    same(ask(target, scripted(text=text)).choices[0].message.content, text)
    chunks = ask(target, scripted(text=text), stream=True)
    same("".join(chunk.choices[0].delta.content or "" for chunk in chunks), text)


@check("scripted")
def cached_tokens_are_told(target: Target) -> None:
    same(ask(target, scripted(cached_tokens=2)).usage.prompt_tokens_details.cached_tokens, 2)


@check("scripted")
def a_tool_is_called_and_its_result_understood(target: Target) -> None:
    script = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    message = ask(target, script, tools=[LOOK]).choices[0].message
    (call,) = message.tool_calls
    same((call.function.name, json.loads(call.function.arguments)), ("look", {"at": 7}))
    result = {"role": "tool", "tool_call_id": call.id, "content": "a tree"}
    holds(ask(target, messages=[*HELLO, message.model_dump(), result], tools=[LOOK]).choices[0].message.content)


@check("scripted")
def streamed_tool_calls_add_up(target: Target) -> None:
    calls = [{"name": "look", "arguments": '{"at": 1}'}, {"name": "look", "arguments": '{"at": 2}'}]
    chunks = list(ask(target, scripted(text="", tool_calls=calls), tools=[LOOK], stream=True))
    message = litellm.stream_chunk_builder(chunks).choices[0].message
    same([call.function.arguments for call in message.tool_calls], ['{"at": 1}', '{"at": 2}'])


@check("tools")
def a_required_tool_is_called(target: Target) -> None:
    message = (
        ask(target, tools=[LOOK], tool_choice="required", max_tokens=200, model=target.tool_model).choices[0].message
    )
    same([call.function.name for call in message.tool_calls], ["look"])


@check("scripted")
def a_json_schema_is_handed_on(target: Target) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "place", "schema": PARAMETERS}}
    answer = ask(target, scripted(text='{"at": 3}'), response_format=form)
    same(json.loads(answer.choices[0].message.content), {"at": 3})


@check("scripted")
def reasoning_is_told_apart(target: Target) -> None:
    message = ask(target, scripted(reasoning="let me see", text="yes")).choices[0].message
    same((message.reasoning_content, message.content), ("let me see", "yes"))


@check()
def a_text_completion_is_answered(target: Target) -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{target.model}", prompt="one two", max_tokens=4, **settings(target)
    )
    holds(answer.choices[0].text)


@check("embeddings")
def a_text_is_embedded(target: Target) -> None:
    answer = litellm.embedding(model=f"openai/{target.embedding_model}", input=["a tree"], **settings(target))
    holds(len(answer.data[0]["embedding"]) > 0)


@check()
def the_models_are_listed(target: Target) -> None:
    listed = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=target.api_key, api_base=target.url
    )
    holds(listed, listed)


@check("keys")
def a_wrong_key_is_an_authentication_error(target: Target) -> None:
    refused(litellm.AuthenticationError, target, api_key="sk-nobody")


@check()
def an_unknown_model_is_a_not_found_error(target: Target) -> None:
    holds("no/such-model" in refused(litellm.NotFoundError, target, model="no/such-model").message)


@check()
def a_wrong_type_is_a_bad_request_error_that_names_the_field(target: Target) -> None:
    holds("temperature" in refused(litellm.BadRequestError, target, temperature="warm").message)


@check("scripted")
def a_prompt_that_is_too_long_is_its_own_error(target: Target) -> None:
    refusal = {"object": "error", "message": "This model's maximum context length is 10 tokens.", "code": 400}
    script = scripted(error_after=0, error_status=400, error_body=refusal)
    refused(litellm.ContextWindowExceededError, target, script=script)


@check("limits")
def a_rate_limit_is_a_rate_limit_error(target: Target) -> None:
    for _ in range(20):
        try:
            ask(target, api_key=target.limited_key)
        except litellm.RateLimitError as error:
            holds(error.message)
            return
    raise AssertionError("no limit was met")


@check("small-bodies")
def a_body_that_is_too_large_is_an_error_that_says_so(target: Target) -> None:
    """LiteLLM calls every `invalid_request_error` a BadRequestError, whatever its status."""
    error = refused(litellm.BadRequestError, target, messages=[{"role": "user", "content": "x" * 1_500_000}])
    holds("bytes" in error.message, error)


@check("scripted")
def a_full_engine_is_a_service_unavailable_error(target: Target) -> None:
    refused(litellm.ServiceUnavailableError, target, model=FULL)


@check("scripted")
def a_stream_that_breaks_raises_and_never_ends_quietly(target: Target) -> None:
    for script in (scripted(error_after=2), scripted(cut_after=2)):
        said = []
        try:
            said.extend(ask(target, script, stream=True))
        except Exception as error:
            holds(str(error))
        else:
            raise AssertionError(f"ended quietly after {said}")


@check("single")
def leaving_a_stream_frees_the_engine(target: Target) -> None:
    stream = ask(target, scripted(**LONG), model=SINGLE, stream=True, max_tokens=5000)
    next(iter(stream))
    stream.completion_stream.close()
    again = scripted(tokens=1)
    freed_within(60.0, lambda: ask(target, again, model=SINGLE), litellm.ServiceUnavailableError)


@check("cold")
def a_cold_model_is_no_error(target: Target) -> None:
    cool(target)
    holds(ask(target, model=COLD).choices[0].message.content)
    cool(target)
    holds("".join(chunk.choices[0].delta.content or "" for chunk in ask(target, model=COLD, stream=True)))


@check("keepalive")
def a_plain_answer_that_takes_long_is_understood(target: Target) -> None:
    same(ask(target, scripted(ttft=1.2, text="at last")).choices[0].message.content, "at last")


@check("keepalive")
def a_plain_answer_that_fails_late_is_an_error(target: Target) -> None:
    try:
        answer = ask(target, scripted(ttft=1.2, error_after=0))
    except Exception as error:
        holds(str(error))
    else:
        raise AssertionError(f"taken for an answer: {answer}")


@check("messages")
def anthropics_dialect_is_spoken_too(target: Target) -> None:
    answer = litellm.completion(
        model=f"anthropic/{target.model}", messages=HELLO, max_tokens=32, api_base=target.url, api_key=target.api_key
    )
    holds(answer.choices[0].message.content)


@check("responses")
def a_response_is_answered(target: Target) -> None:
    answer = litellm.responses(
        model=f"openai/{target.model}", input="one two three", api_base=f"{target.url}/v1", api_key=target.api_key,
        store=False,
    )  # fmt: skip
    holds(answer.output[-1].content[0].text)
