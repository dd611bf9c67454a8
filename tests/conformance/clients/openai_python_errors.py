"""openai-python when something goes wrong: refusals, failures, callers who leave, cold starts. As 1.0.0 has it."""

from __future__ import annotations

import functools
from typing import Any

import openai
from harness import COLD, FULL, SINGLE, Target, check, cool, freed_within, holds, same, scripted
from openai_python import HELLO, LONG, ask, client, joined


def refused(kind: type[openai.APIStatusError], target: Target, **more: Any) -> tuple[Any, dict[str, Any]]:
    """The error that a request ends with, and what it says: it must be of this class and tell its reader something."""
    try:
        answer = ask(target, **more)
    except kind as error:
        same(type(error), kind)
        return error, told_by(error)
    raise AssertionError(f"no {kind.__name__}: {answer}")


def told_by(error: openai.APIStatusError) -> dict[str, Any]:
    body = error.response.json()["error"]
    same(set(body), {"message", "type", "param", "code"})
    holds(body["message"] and body["message"] in str(error), error)
    return body


@check("keys")
def a_wrong_key_is_an_authentication_error(target: Target) -> None:
    _, told = refused(openai.AuthenticationError, target, options={"api_key": "sk-nobody"})
    same((told["code"], told["type"]), ("invalid_api_key", "invalid_request_error"))
    holds("sk-nobody" not in told["message"], "a key is not repeated")


@check()
def an_unknown_model_is_a_not_found_error(target: Target) -> None:
    _, told = refused(openai.NotFoundError, target, model="no/such-model")
    same((told["code"], told["type"]), ("model_not_found", "invalid_request_error"))
    holds("no/such-model" in told["message"])


@check()
def an_unknown_path_is_a_not_found_error_with_a_message(target: Target) -> None:
    try:
        client(target).fine_tuning.jobs.list()
    except openai.NotFoundError as error:
        holds(told_by(error))
    else:
        raise AssertionError("no error")


@check()
def a_wrong_type_is_a_bad_request_error_that_names_the_field(target: Target) -> None:
    _, told = refused(openai.BadRequestError, target, temperature="warm")
    same((told["param"], told["type"]), ("temperature", "invalid_request_error"))
    _, told = refused(openai.BadRequestError, target, messages=[{"role": "user", "content": 7}])
    holds(told["param"].startswith("messages[0].content"), told)


@check("small-bodies")
def a_body_that_is_too_large_is_an_error_with_a_status(target: Target) -> None:
    try:
        answer = ask(target, messages=[{"role": "user", "content": "x" * 1_500_000}])
    except openai.APIStatusError as error:
        same(error.status_code, 413)
        holds("bytes" in told_by(error)["message"], error)
    else:
        raise AssertionError(f"no error: {answer}")


@check("limits")
def a_rate_limit_is_an_error_that_says_when_to_come_back(target: Target) -> None:
    for _ in range(20):
        try:
            ask(target, options={"api_key": target.limited_key}, max_tokens=1)
        except openai.RateLimitError as error:
            headers = error.response.headers
            same((error.status_code, told_by(error)["code"]), (429, "rate_limit_exceeded"))
            holds(0 < float(headers["retry-after"]) <= 60, headers)
            same(headers["x-ratelimit-remaining-requests"], "0")
            return
    raise AssertionError("no limit was met")


@check("scripted")
def a_full_engine_is_an_internal_server_error_worth_a_retry(target: Target) -> None:
    error, told = refused(openai.InternalServerError, target, model=FULL)
    same((error.status_code, told["code"], told["type"]), (503, "server_is_overloaded", "service_unavailable_error"))
    holds(0 < float(error.response.headers["retry-after"]) <= 60)


@check("scripted")
def the_engines_refusal_is_a_bad_request_error(target: Target) -> None:
    refusal = {"object": "error", "message": "This model's maximum context length is 10 tokens.", "code": 400}
    script = scripted(error_after=0, error_status=400, error_body=refusal)
    for stream in (False, True):
        _, told = refused(openai.BadRequestError, target, stream=stream, extra_body=script)
        same(told["code"], "context_length_exceeded")


@check("scripted")
def an_engine_that_fails_is_an_internal_server_error(target: Target) -> None:
    _, told = refused(openai.InternalServerError, target, extra_body=scripted(error_after=3))
    holds("Traceback" not in told["message"])


@check("scripted")
def a_stream_that_breaks_raises_and_never_ends_quietly(target: Target) -> None:
    for script in (scripted(error_after=2), scripted(cut_after=2)):
        said = []
        try:
            for chunk in ask(target, stream=True, extra_body=script):
                said.append(chunk)
        except openai.APIError as error:
            holds(error.message)
        else:
            raise AssertionError(f"ended quietly after {said}")
        holds(len(said) >= 2, said)


@check("single")
def leaving_a_stream_frees_the_engine(target: Target) -> None:
    stream = ask(target, model=SINGLE, stream=True, max_tokens=5000, extra_body=scripted(**LONG))
    next(iter(stream))
    getattr(stream, "close", stream.response.close)()
    freed(target)


@check("single")
def leaving_a_plain_request_frees_the_engine(target: Target) -> None:
    try:
        ask(target, model=SINGLE, max_tokens=5000, extra_body=scripted(**LONG), options={"timeout": 0.5})
    except openai.APITimeoutError:
        freed(target)
    else:
        raise AssertionError("it was answered")


def freed(target: Target) -> None:
    again = functools.partial(ask, target, model=SINGLE, extra_body=scripted(tokens=1))
    freed_within(60.0, again, openai.InternalServerError)


@check("cold")
def a_cold_model_is_no_error_for_a_stream(target: Target) -> None:
    cool(target)
    holds(joined(ask(target, model=COLD, stream=True)))


@check("cold")
def a_cold_model_is_no_error_for_a_plain_request(target: Target) -> None:
    cool(target)
    holds(ask(target, model=COLD).choices[0].message.content)


@check("keepalive")
def a_plain_answer_that_takes_long_is_understood(target: Target) -> None:
    answer = ask(target, extra_body=scripted(ttft=1.2, text="at last"))
    same(answer.choices[0].message.content, "at last")


@check("keepalive")
def a_plain_answer_that_fails_late_is_an_error(target: Target) -> None:
    try:
        answer = ask(target, extra_body=scripted(ttft=1.2, error_after=0))
    except openai.APIError as error:
        holds(str(error))
    else:
        raise AssertionError(f"taken for an answer: {answer}")


@check("scripted")
def a_request_id_is_told(target: Target) -> None:
    answer = client(target).chat.completions.with_raw_response.create(
        model=target.model, messages=HELLO, extra_headers={"X-Request-ID": "mine-1"}
    )
    same(answer.headers["x-request-id"], "mine-1")
