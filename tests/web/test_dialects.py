"""The translations as tables: what a caller asks, what each engine is told, what its answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.web.conftest import MODEL
from web.dialects.engines import engine_call
from web.dialects.openai import parse_chat, parse_text
from web.dialects.openai_answer import OpenAIAnswer, OpenAIStream
from web.dialects.pieces import EngineStream
from web.dialects.sse import LONGEST_EVENT, EventReader, payload_of
from web.dialects.translation import StreamedAnswer, WholeAnswer
from web.errors import EngineBroken, EngineFailed, EngineOverloaded, EngineRefused, EngineUnreachable, InvalidRequest
from web.verdicts import Retry, judge, retry_delay

Json = dict[str, Any]
USER = {"role": "user", "content": "hi"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def fields_of(**body: Any) -> Json:
    return dict(parse_chat(json.dumps({"model": MODEL, "messages": [USER], **body}).encode()).fields)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": None, "stop": None, "tools": None, "temperature": None, "n": None}, {}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"stop": "x"}, {"stop": "x"}),
        ({"stop": list("abcd")}, {"stop": list("abcd")}),
        ({"tools": []}, {}),
        ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
        ({"tools": TOOLS, "tool_choice": "required"}, {"tools": TOOLS, "tool_choice": "required"}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}),
        ({"logit_bias": {"5": -100}}, {"logit_bias": {"5": -100}}),
        ({"user": "u", "store": True, "metadata": {}, "service_tier": "auto", "what": "ever"}, {}),
        ({"functions": [], "audio": None, "modalities": ["text"]}, {}),
    ],
)
def test_what_a_chat_request_may_hold(body: Json, expected: Json) -> None:
    assert fields_of(**body) == {"messages": [USER]} | expected


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "assistant", "content": "x", "refusal": None, "name": "n"},
        {"role": "tool", "tool_call_id": "c", "content": "done"},
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "done"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]},
    ],
)  # fmt: skip
def test_every_form_of_message_is_taken_as_it_is(message: Json) -> None:
    assert fields_of(messages=[message])["messages"] == [message]


def test_a_developer_is_the_system() -> None:
    assert fields_of(messages=[{"role": "developer", "content": "x"}])["messages"][0]["role"] == "system"


@pytest.mark.parametrize(
    ("prompt", "n", "choices"), [("a", None, 1), (["a", "b"], 2, 4), ([1, 2, 3], 2, 2), ([[1], [2]], None, 2)]
)
def test_a_completion_has_a_choice_for_each_prompt(prompt: Any, n: int | None, choices: int) -> None:
    request = parse_text(json.dumps({"model": MODEL, "prompt": prompt, "n": n}).encode())
    assert (request.choices, request.fields["prompt"]) == (choices, prompt)


@pytest.mark.parametrize("prompt", [[], [[]], [1, "a"], 7, None])
def test_a_prompt_that_is_none_is_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_text(json.dumps({"model": MODEL, "prompt": prompt}).encode())
    assert str(caught.value.param).startswith("prompt")


def told(kind: Any, **body: Any) -> tuple[Json, bytes | None]:
    request = parse_chat(json.dumps({"model": MODEL, "messages": [USER], **body}).encode())
    call = engine_call(request, kind=kind, model="served", rid="r1")
    assert call.path == "/v1/chat/completions"
    return json.loads(call.body), call.abort


COMMON = {"messages": [USER], "model": "served", "stream": True, "stream_options": {"include_usage": True}}


def test_sglang_is_told_a_rid_and_can_be_told_to_abort_it() -> None:
    body, abort = told("sglang", repetition_penalty=1.1, x_scripted={"tokens": 1})
    assert body == COMMON | {"rid": "r1", "repetition_penalty": 1.1}
    assert abort == b'{"rid":"r1"}'


def test_llamacpp_is_told_its_own_names_and_to_report_progress() -> None:
    body, abort = told("llamacpp", repetition_penalty=1.1, stream=False, x_scripted={"tokens": 1})
    assert body == COMMON | {"return_progress": True, "repeat_penalty": 1.1}
    assert abort is None


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
def test_llamacpp_is_made_to_call_by_a_schema_and_still_shows_the_tools(choice: Any) -> None:
    body, _ = told("llamacpp", tools=TOOLS, tool_choice=choice)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["anyOf"][0]["properties"]["name"] == {"const": "f"}
    assert (body["tools"], body["tool_choice"]) == (TOOLS, "none")


def test_only_the_scripted_engine_hears_its_script() -> None:
    assert told("scripted", x_scripted={"tokens": 1})[0] == COMMON | {"rid": "r1", "x_scripted": {"tokens": 1}}


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (503, b"modal-http: no containers", Retry("booting")),
        (503, b"", Retry("booting")),
        (503, b'{"error":{"message":"Loading model","code":503}}', Retry("booting")),
        (429, b"modal-http: too many", Retry("busy")),
        (502, b"modal-http: bad gateway: the server refused the connection", Retry("booting")),
        (502, b"modal-http: bad gateway: closed", Retry("lost")),
        (504, b"", Retry("lost")),
        (503, b'{"object":"error","message":"The request queue is full.","code":503}', EngineOverloaded),
        (429, b'{"error":{"message":"busy"}}', EngineOverloaded),
        (401, b"modal-http: missing credentials for proxy authorization", EngineUnreachable),
        (401, b'{"error":"Unauthorized"}', EngineUnreachable),
        (404, b"modal-http: not found", EngineUnreachable),
        (404, b'{"detail":"Not Found"}', EngineBroken),
        (400, b'{"object":"error","message":"no","code":400}', EngineRefused),
        (422, b'{"error":{"message":"no"}}', EngineRefused),
        (500, b'{"error":{"message":"Traceback"}}', EngineBroken),
        (500, b"Internal Server Error", EngineBroken),
        (302, b"", EngineBroken),
    ],
)
def test_who_said_no_and_what_it_means(status: int, body: bytes, meaning: Any) -> None:
    verdict = judge(status, {}, body)
    assert verdict == meaning if isinstance(meaning, Retry) else isinstance(verdict, meaning)


def test_a_failed_engine_says_so_by_a_header() -> None:
    body = b'{"error":{"message":"no such file","code":"engine_start_failed"}}'
    verdict = judge(503, {"x-engine-state": "failed"}, body)
    assert isinstance(verdict, EngineFailed)
    assert "no such file" in verdict.message


def test_pauses_between_attempts_grow_with_the_wait_and_stay_short() -> None:
    assert [retry_delay(waited) for waited in (0, 0.4, 3, 10, 1000)] == [0.05, 0.05, 0.3, 1.0, 1.0]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_whole_however_they_are_cut(size: int) -> None:
    stream = b": hello\n\ndata: one\n\ndata:two\n\nevent: x\n\nerror: {}\n\ndata: [DONE]\n\n"
    reader = EventReader()
    events = [event for start in range(0, len(stream), size) for event in reader.split(stream[start : start + size])]
    assert [payload for event in events if (payload := payload_of(event)) is not None] == [
        b"one",
        b"two",
        b'{"error": {}}',
        b"[DONE]",
    ]


def test_an_event_without_an_end_is_given_up() -> None:
    reader = EventReader()
    with pytest.raises(EngineBroken):
        for _ in range(LONGEST_EVENT // 1_000_000 + 2):
            reader.split(b"x" * 1_000_000)


def test_a_tool_call_without_index_or_id_gets_them_and_opens_without_arguments() -> None:
    stream = EngineStream(kind="chat", choices=1)
    call = {"function": {"name": "f", "arguments": '{"a":'}}
    pieces = stream.read(json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode())
    assert [piece.value["function"] for piece in pieces] == [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}]
    assert pieces[0].value["index"] == 0
    assert pieces[0].value["id"]


def test_log_probabilities_of_completions_add_up() -> None:
    request = parse_text(json.dumps({"model": MODEL, "prompt": "x", "logprobs": 1}).encode())
    stream, answer = EngineStream(kind="text", choices=1), OpenAIAnswer(request, answer_id="cmpl-1", created=1)
    for word, finish in (("a", None), ("b", "stop")):
        logprobs = {"tokens": [word], "token_logprobs": [-1], "top_logprobs": None, "text_offset": [0]}
        choice = {"index": 0, "text": word, "logprobs": logprobs, "finish_reason": finish}
        answer.add(stream.read(json.dumps({"choices": [choice]}).encode()))
    assert json.loads(answer.body(None))["choices"] == [
        {"index": 0, "text": "ab", "finish_reason": "stop", "logprobs": {
            "tokens": ["a", "b"], "token_logprobs": [-1, -1], "top_logprobs": None, "text_offset": [0, 0]}},
    ]  # fmt: skip


def test_usage_that_is_told_for_each_choice_adds_up() -> None:
    stream = EngineStream(kind="chat", choices=2)
    for completion in (3, 4):
        told = {"prompt_tokens": 10, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": 8}}
        stream.read(json.dumps({"choices": [], "usage": told}).encode())
    assert stream.usage == (10, 7, 8, None)


class TestTheShortWay:
    """Token events relayed unparsed come out as if they had been parsed."""

    WORDS = (
        "Hi",
        " there",
        'say "so"',
        "back\\slash",
        "naïve",
        "☃",
        "line\nbreak",
        "",
        "content",
        "stop",
        "]}",
        "\u0000",
    )

    @pytest.mark.parametrize("escaped", [True, False])
    @pytest.mark.parametrize("kind", ["chat", "text"])
    @pytest.mark.parametrize("size", [1, 50, 10_000, None])
    def test_words_of_every_kind_come_out_alike(self, kind: Any, escaped: bool, size: int | None) -> None:
        """`size` of a read; None: each event in a read of its own, the way that the shortcut takes."""
        body = {"model": MODEL, "messages": [USER], "prompt": "x"}
        request = (parse_chat if kind == "chat" else parse_text)(json.dumps(body).encode())
        stream = b"".join(self._event(kind, word, escaped=escaped) for word in self.WORDS * 2)
        whole = self._event(kind, self.WORDS[0], escaped=escaped)
        answer = StreamedAnswer(request, OpenAIStream(request, answer_id="a", created=1))
        if size is None:
            pieces = [self._event(kind, word, escaped=escaped) for word in self.WORDS * 2]
        else:
            pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
        said = answer.feed(whole) + b"".join(answer.feed(piece) for piece in pieces)
        assert answer.failure is None
        events = [json.loads(event[6:]) for event in said.decode().split("\n\n") if event]
        assert {event["id"] for event in events} == {"a"}, "nothing of the engine's own events is passed on"
        choices = [event["choices"][0] for event in events]
        texts = [choice["delta"].get("content") if kind == "chat" else choice["text"] for choice in choices]
        assert [text for text in texts if text] == [word for word in (self.WORDS[0], *self.WORDS, *self.WORDS) if word]

    def test_an_event_that_differs_elsewhere_is_parsed(self) -> None:
        request = parse_chat(json.dumps({"model": MODEL, "messages": [USER]}).encode())
        answer = StreamedAnswer(request, OpenAIStream(request, answer_id="a", created=1))
        for word in ("one", "two"):
            answer.feed(self._event("chat", word))
        told = answer.feed(self._event("chat", "three", finish="stop"))
        assert b'"finish_reason":"stop"' in told
        answer.feed(b"data: [DONE]\n\n")
        assert answer.done

    @pytest.mark.parametrize("broken", ["\\", "\\ud83d", "\\u00"])
    @pytest.mark.parametrize("stream", [True, False])
    def test_of_events_that_came_together_those_before_one_that_is_none_are_told(
        self, stream: bool, broken: str
    ) -> None:
        """Also where the beginning of the next text would complete what is broken."""
        request = parse_chat(json.dumps({"model": MODEL, "messages": [USER]}).encode())
        streamed = StreamedAnswer(request, OpenAIStream(request, answer_id="a", created=1))
        whole = WholeAnswer(request, OpenAIAnswer(request, answer_id="a", created=1))
        words = [self._event("chat", word) for word in ("one", "two", "three")]
        torn = self._event("chat", "@").replace(b"@", broken.encode())
        answer = streamed if stream else whole
        told = answer.feed(b"".join([*words, torn, self._event("chat", "n0041")]))
        assert isinstance(answer.failure, EngineBroken)
        assert answer.heard == len(words)
        assert not stream or b'"three"' in (told or b"")

    @staticmethod
    def _event(kind: str, word: str, *, escaped: bool = True, finish: str | None = None) -> bytes:
        said = {"delta": {"role": None, "content": word}} if kind == "chat" else {"text": word}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish}
        event = json.dumps({"id": "x", "choices": [choice]}, ensure_ascii=escaped)
        return b"data: " + event.encode() + b"\n\n"
