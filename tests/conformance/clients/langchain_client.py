"""LangChain's ChatOpenAI and OpenAIEmbeddings, as chains use them."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
from harness import COLD, FULL, SINGLE, Target, check, cool, freed_within, holds, same, scripted
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

LONG = {"gap": 0.02, "tokens": 5000}
QUESTION = [HumanMessage("one two three")]


class Place(BaseModel):
    """A place."""

    at: int


@tool
def look(at: int) -> str:
    """Look at a place."""
    return f"a tree at {at}"


def chat(target: Target, script: dict[str, Any] | None = None, **more: Any) -> ChatOpenAI:
    given = {
        "model": target.model,
        "api_key": target.api_key,
        "max_tokens": 32,
        "max_retries": 0,
        "timeout": 25,
        **more,
    }
    return ChatOpenAI(base_url=f"{target.url}/v1", extra_body=script, **(given | more))


def refused(kind: type[Exception], model: Any) -> Any:
    try:
        answer = model.invoke(QUESTION)
    except kind as error:
        holds(isinstance(error, kind) and error.message, error)
        return error
    raise AssertionError(f"no {kind.__name__}: {answer}")


@check()
def a_question_is_answered_and_its_tokens_counted(target: Target) -> None:
    answer = chat(target).invoke([SystemMessage("be brief"), *QUESTION])
    holds(answer.content and answer.response_metadata["finish_reason"] in ("stop", "length"), answer)
    usage = answer.usage_metadata
    same(usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])


@check()
def a_stream_adds_up_with_its_usage(target: Target) -> None:
    whole: AIMessageChunk | None = None
    for chunk in chat(target, stream_usage=True).stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    holds(whole is not None and whole.content and whole.usage_metadata["output_tokens"] > 0, whole)


@check("scripted")
def cached_tokens_are_told(target: Target) -> None:
    answer = chat(target, scripted(cached_tokens=2)).invoke(QUESTION)
    same(answer.usage_metadata["input_token_details"]["cache_read"], 2)


@check("scripted")
def the_same_words_streamed_and_plain_and_asynchronous(target: Target) -> None:
    text = 'Grüße, 世界! "quoted" 🎈'
    model = chat(target, scripted(text=text))
    same(model.invoke(QUESTION).content, text)
    same("".join(chunk.content for chunk in model.stream(QUESTION)), text)
    same(asyncio.run(model.ainvoke(QUESTION)).content, text)


@check("scripted")
def a_bound_tool_is_called_and_its_result_understood(target: Target) -> None:
    script = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    model = chat(target, script).bind_tools([look])
    first = model.invoke(QUESTION)
    (call,) = first.tool_calls
    same((call["name"], call["args"]), ("look", {"at": 7}))
    result = ToolMessage(look.invoke(call["args"]), tool_call_id=call["id"])
    second = chat(target).bind_tools([look]).invoke([*QUESTION, first, result])
    holds(second.content)


@check("scripted")
def a_streamed_tool_call_adds_up(target: Target) -> None:
    calls = [{"name": "look", "arguments": '{"at": 1}'}, {"name": "look", "arguments": '{"at": 2}'}]
    whole: AIMessageChunk | None = None
    for chunk in chat(target, scripted(text="", tool_calls=calls)).bind_tools([look]).stream(QUESTION):
        whole = chunk if whole is None else whole + chunk
    same([call["args"] for call in whole.tool_calls], [{"at": 1}, {"at": 2}])


@check("tools")
def a_forced_tool_is_called(target: Target) -> None:
    for choice in ("required", "look"):
        answer = (
            chat(target, max_tokens=200, model=target.tool_model)
            .bind_tools([look], tool_choice=choice)
            .invoke(QUESTION)
        )
        same([call["name"] for call in answer.tool_calls], ["look"])


@check("scripted")
def structured_output_is_parsed_by_schema_and_by_function(target: Target) -> None:
    by_schema = chat(target, scripted(text='{"at": 3}')).with_structured_output(Place, method="json_schema")
    same(by_schema.invoke(QUESTION), Place(at=3))
    script = scripted(text="", tool_calls=[{"name": "Place", "arguments": '{"at": 4}'}])
    by_function = chat(target, script).with_structured_output(Place, method="function_calling")
    same(by_function.invoke(QUESTION), Place(at=4))


@check("tools")
def structured_output_is_enforced_by_whatever_engine(target: Target) -> None:
    for method in ("json_schema", "function_calling"):
        model = chat(target, max_tokens=200, model=target.tool_model).with_structured_output(Place, method=method)
        holds(isinstance(model.invoke(QUESTION), Place), method)


@check("scripted")
def a_batch_of_questions_is_answered_in_order(target: Target) -> None:
    answers = chat(target, scripted(tokens=2)).batch([QUESTION] * 4)
    same([answer.content for answer in answers], ["t0 t1 "] * 4)


@check("scripted")
def log_probabilities_are_told(target: Target) -> None:
    answer = chat(target, scripted(tokens=2), logprobs=True).invoke(QUESTION)
    same([entry["token"] for entry in answer.response_metadata["logprobs"]["content"]], ["t0 ", "t1 "])


@check("embeddings")
def texts_are_embedded(target: Target) -> None:
    model = OpenAIEmbeddings(
        base_url=f"{target.url}/v1", api_key=target.api_key, model=target.embedding_model, max_retries=0,
        check_embedding_ctx_length=False,
    )  # fmt: skip
    vectors = model.embed_documents(["a tree", "a house"])
    same(len(vectors), 2)
    same(len(model.embed_query("a tree")), len(vectors[0]))


@check("keys")
def a_wrong_key_is_an_authentication_error(target: Target) -> None:
    refused(openai.AuthenticationError, chat(target, api_key="sk-nobody"))


@check()
def an_unknown_model_is_a_not_found_error(target: Target) -> None:
    refused(openai.NotFoundError, chat(target, model="no/such-model"))


@check()
def a_wrong_value_is_a_bad_request_error_that_names_the_field(target: Target) -> None:
    same(refused(openai.BadRequestError, chat(target, temperature=7)).param, "temperature")


@check("limits")
def a_rate_limit_is_a_rate_limit_error(target: Target) -> None:
    model = chat(target, api_key=target.limited_key)
    for _ in range(20):
        try:
            model.invoke(QUESTION)
        except openai.RateLimitError as error:
            same(error.code, "rate_limit_exceeded")
            return
    raise AssertionError("no limit was met")


@check("small-bodies")
def a_body_that_is_too_large_is_an_error_with_a_status(target: Target) -> None:
    try:
        chat(target).invoke("x" * 1_500_000)
    except openai.APIStatusError as error:
        same(error.status_code, 413)
    else:
        raise AssertionError("no error")


@check("scripted")
def a_full_engine_is_an_internal_server_error(target: Target) -> None:
    same(refused(openai.InternalServerError, chat(target, model=FULL)).status_code, 503)


@check("scripted")
def a_stream_that_breaks_raises_and_never_ends_quietly(target: Target) -> None:
    for script in (scripted(error_after=2), scripted(cut_after=2)):
        said = []
        try:
            said.extend(chat(target, script).stream(QUESTION))
        except openai.APIError as error:
            holds(error.message)
        else:
            raise AssertionError(f"ended quietly after {said}")


@check("single")
def leaving_a_stream_frees_the_engine(target: Target) -> None:
    stream = chat(target, scripted(**LONG), model=SINGLE, max_tokens=5000).stream(QUESTION)
    next(stream)
    stream.close()
    again = chat(target, scripted(tokens=1), model=SINGLE)
    freed_within(60.0, lambda: again.invoke(QUESTION), openai.InternalServerError)


@check("cold")
def a_cold_model_is_no_error(target: Target) -> None:
    cool(target)
    holds(chat(target, model=COLD).invoke(QUESTION).content)
    cool(target)
    holds("".join(chunk.content for chunk in chat(target, model=COLD).stream(QUESTION)))


@check("keepalive")
def a_plain_answer_that_takes_long_is_understood(target: Target) -> None:
    same(chat(target, scripted(ttft=1.2, text="at last")).invoke(QUESTION).content, "at last")


@check("keepalive")
def a_plain_answer_that_fails_late_is_an_error(target: Target) -> None:
    try:
        answer = chat(target, scripted(ttft=1.2, error_after=0)).invoke(QUESTION)
    except Exception as error:
        holds(str(error))
    else:
        raise AssertionError(f"taken for an answer: {answer}")


def respond(target: Target, script: dict[str, Any] | None = None, **more: Any) -> ChatOpenAI:
    return chat(target, script, use_responses_api=True, store=False, **more)


@check("responses")
def the_responses_api_answers_plain_and_streamed(target: Target) -> None:
    holds(respond(target).invoke(QUESTION).text)
    holds("".join(chunk.text for chunk in respond(target).stream(QUESTION)))


@check("responses", "scripted")
def the_responses_api_calls_a_bound_tool(target: Target) -> None:
    script = scripted(text="", tool_calls=[{"name": "look", "arguments": '{"at": 7}'}])
    first = respond(target, script).bind_tools([look]).invoke(QUESTION)
    (call,) = first.tool_calls
    same((call["name"], call["args"]), ("look", {"at": 7}))
    result = ToolMessage("a tree", tool_call_id=call["id"])
    holds(respond(target).bind_tools([look]).invoke([*QUESTION, first, result]).text)
