"""The service's own bodies, and the one rule that tells them from OpenAI's, as tables; and its stream, bit by bit."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder
from openai.types import completion_create_params

from infra.settings import Model, Models, Settings
from web.dialects.fields import FIELDS
from web.dialects.pieces import Piece, Usage
from web.dialects.service import OPENAIS_OWN, chat_dialect, parse_chat, parse_text, text_dialect
from web.dialects.service_answer import Elapsed, ServiceAnswer, ServiceStream
from web.dialects.service_device import device_headers, device_of, fallback
from web.dialects.service_frames import JsonFrames, PlainFrames, frames
from web.dialects.service_schema import SPELLINGS, session_id_fault
from web.dialects.validation import json_object
from web.errors import InvalidRequest, to_wire

Json = dict[str, Any]
CHAT = {"model": "m", "prompt": "hi"}
FOUNDING = {
    "model-name": "m", "prompt": "hi", "session-id": "s", "max-token": 128, "temperature": 0.7, "top-p": 0.95,
    "top-k": 10, "repeat-penalty": 1.0, "stop": [], "device": "cpu",
}  # fmt: skip
STANDARD = {"max_tokens": 128, "temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.0}


@pytest.mark.parametrize(
    ("body", "whose"),
    [
        ({"messages": []}, "openai"),
        ({"messages": [], "prompt": None}, "openai"),
        ({"prompt": "hi"}, "service"),
        ({"prompt": "hi", "messages": None, "stream": True, "n": 2}, "service"),
        (FOUNDING, "service"),
    ],
)
def test_a_chat_with_messages_is_openais_and_one_with_a_prompt_the_services_own(body: Json, whose: str) -> None:
    assert chat_dialect(body) == whose


@pytest.mark.parametrize("body", [{}, {"model": "m"}, {"prompt": "hi", "messages": []}])
def test_a_chat_with_both_or_neither_is_told_that_it_is_one_or_the_other(body: Json) -> None:
    with pytest.raises(InvalidRequest, match=r"'messages'.*'prompt'"):
        chat_dialect(body)


@pytest.mark.parametrize("field", sorted({spelling for spellings in SPELLINGS.values() for spelling in spellings}))
def test_a_completion_with_the_services_own_fields_is_its_own(field: str) -> None:
    assert text_dialect({**CHAT, field: 1, "who-knows": 1}) == "service"


@pytest.mark.parametrize("field", sorted(set(completion_create_params.CompletionCreateParamsBase.__annotations__)))
def test_a_completion_with_a_field_that_only_openai_has_is_openais(field: str) -> None:
    shared = {"model", "prompt", "max_tokens", "temperature", "top_p", "stop"}
    assert text_dialect({**CHAT, field: 1}) == ("service" if field in shared else "openai")
    assert text_dialect({**CHAT, field: None}) == "service", "null is as good as absent"


def test_the_rule_is_made_of_the_table_of_openais_fields() -> None:
    assert {field.name for field in FIELDS} > OPENAIS_OWN
    assert not OPENAIS_OWN & {"stream", "model", "top_k"}


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b"[]", b'"text"', b"1"])
def test_what_is_no_json_object_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        json_object(body)
    assert refused.value.code == "invalid_json"


def test_the_founding_example_is_a_request() -> None:
    asked = parse_chat(FOUNDING)
    assert asked.request.fields == {"messages": [{"role": "user", "content": "hi"}], "top_k": 10, **STANDARD}
    assert (asked.request.model, asked.request.stream, asked.request.kind) == ("m", True, "chat")
    assert (asked.session_id, asked.device, asked.prompt) == ("s", "cpu", "hi")


def test_what_is_not_said_is_what_the_document_says() -> None:
    assert parse_chat(CHAT).request.fields == parse_chat(FOUNDING).request.fields
    asked = parse_text(CHAT)
    assert asked.request.fields == {"prompt": "hi", **STANDARD}
    assert not asked.request.stream
    nothing: Json = {name: None for names in SPELLINGS.values() for name in names}
    assert parse_chat({**nothing, **CHAT}) == parse_chat(CHAT)


VALUES: Json = {
    "model": "m", "prompt": "p", "max_tokens": 5, "temperature": 0.5, "top_p": 0.5, "top_k": 7, "repeat_penalty": 1.5,
    "stop": ["x"], "device": "metal", "stream": True, "events": True, "session_id": "s", "system_prompt": "Be brief.",
    "images": ["data:image/png;base64,iVBORw0KGgo="],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spelling"), [(name, spelling) for name, spellings in SPELLINGS.items() for spelling in spellings]
)
def test_every_field_is_taken_in_every_spelling(name: str, spelling: str) -> None:
    rest = {own: value for own, value in VALUES.items() if own != name}
    assert parse_chat({**rest, spelling: VALUES[name]}) == parse_chat(VALUES)


@pytest.mark.parametrize(
    ("one", "other"), [pair for spellings in SPELLINGS.values() for pair in itertools.combinations(spellings, 2)]
)
def test_two_spellings_agree_or_are_refused(one: str, other: str) -> None:
    name = next(name for name, spellings in SPELLINGS.items() if one in spellings)
    body = {own: value for own, value in VALUES.items() if own != name}
    assert parse_chat({**body, one: VALUES[name], other: VALUES[name]}) == parse_chat(VALUES)
    assert parse_chat({**body, one: VALUES[name], other: None}) == parse_chat(VALUES)
    with pytest.raises(InvalidRequest, match=f"'{one}' and '{other}'"):
        parse_chat({**body, one: VALUES[name], other: "something else"})


def test_true_is_not_the_same_as_one() -> None:
    with pytest.raises(InvalidRequest, match="different values"):
        parse_chat({**CHAT, "top_k": 1, "top-k": True})


@pytest.mark.parametrize(
    ("mistake", "param", "code"),
    [
        ({"model": None}, "model", "missing_required_parameter"),
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": ["a", "b"]}, "prompt", "invalid_type"),
        ({"max-token": 0}, "max-token", "invalid_value"),
        ({"max_tokens": "5"}, "max_tokens", "invalid_type"),
        ({"temperature": 2.5}, "temperature", "invalid_value"),
        ({"temperature": True}, "temperature", "invalid_type"),
        ({"top-p": 0}, "top-p", "invalid_value"),
        ({"top-k": 1.5}, "top-k", "invalid_type"),
        ({"repeat-penalty": 0}, "repeat-penalty", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "invalid_value"),
        ({"stop": ["x"] * 17}, "stop", "invalid_value"),
        ({"device": "tpu"}, "device", "invalid_value"),
        ({"events": "yes"}, "events", "invalid_type"),
    ],
)
def test_a_mistake_is_named_as_its_maker_spelled_it(mistake: Json, param: str, code: str) -> None:
    for parse in (parse_chat, parse_text):
        with pytest.raises(InvalidRequest) as refused:
            parse({**CHAT, **mistake})
        assert (refused.value.param, refused.value.code) == (param, code)
        assert f"'{param}'" in refused.value.message


@pytest.mark.parametrize(
    ("mistake", "param"),
    [
        ({"session-id": ""}, "session-id"),
        ({"session_id": "x" * 129}, "session_id"),
        ({"session_id": "a\nb"}, "session_id"),
        ({"session_id": ".."}, "session_id"),
        ({"session_id": 5}, "session_id"),
        ({"stream": False}, "stream"),
    ],
)
def test_what_a_chat_cannot_be_asked(mistake: Json, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_chat({**CHAT, **mistake})
    assert refused.value.param == param


@pytest.mark.parametrize("field", ["session_id", "session-id", "system_prompt", "system-prompt"])
def test_a_completion_has_no_session(field: str) -> None:
    with pytest.raises(InvalidRequest, match="chat") as refused:
        parse_text({**CHAT, field: "x"})
    assert refused.value.param == field


@pytest.mark.parametrize("name", ["a", "ä/b c?&#%", "日本", "x" * 128, "...", "a..", "🦙"])
def test_a_session_may_have_any_printable_name(name: str) -> None:
    assert session_id_fault(name) is None


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"stop": "x"}, {"stop": ["x"]}), ({"stop": []}, {}), ({"top-k": 0}, {"top_k": -1}),
        ({"top-k": -1}, {"top_k": -1}), ({"repeat-penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"temperature": 0}, {"temperature": 0}), ({"who-knows": 1, "device": "cuda", "events": True}, {}),
    ],
)  # fmt: skip
def test_what_the_engine_is_told(body: Json, sent: Json) -> None:
    expected = {"prompt": "hi", **STANDARD, **sent}
    assert parse_text({**CHAT, **body}).request.fields == expected


def text(*pieces: str) -> list[Piece]:
    return [Piece(0, "text", piece, None) for piece in pieces]


def elapsed(*times: float) -> Elapsed:
    return Elapsed(iter([*times, *[times[-1]] * 9]).__next__)


def parsed(data: bytes, *, size: int = 7) -> list[tuple[str | None, str]]:
    """What a real SSE parser makes of the bytes, however they are cut."""
    cut = (data[at : at + size] for at in range(0, len(data), size))
    return [(event.event, event.data) for event in SSEDecoder().iter_bytes(cut)]


def as_sse_can(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
"""For machines that have other things to do."""
WRITTEN = st.text(st.characters(exclude_categories=["Cs"]))
TRICKY = st.text(st.sampled_from(["\r", "\n", " ", ":", "d", "\x00", "\x85", "\u2028", "\x0b", "\ufeff", "é"]))


@PATIENT
@given(st.lists(WRITTEN | TRICKY), st.integers(1, 9))
@example(["a\r", "\nb", "\r", "\r\n", "\n"], 1)
@example(["\r", "", "\n", "x"], 3)
def test_a_parser_gives_back_the_text_exactly(pieces: list[str], size: int) -> None:
    stream = ServiceStream(elapsed(0), events=False)
    data = b"".join(stream.pieces(text(piece)) for piece in pieces) + stream.end(None)
    *events, last = parsed(data, size=size)
    assert "".join(data for _, data in events) == as_sse_can("".join(pieces))
    assert all(event is None and data for event, data in events), "no event is empty"
    assert last == ("done", "")


@pytest.mark.parametrize(
    ("piece", "told"),
    [("a", b"data: a\n\n"), (" a", b"data:  a\n\n"), ("a\nb", b"data: a\ndata: b\n\n"), ("\n", b"data: \ndata: \n\n"),
     ("", b""), ("a\r\nb", b"data: a\ndata: b\n\n"), (": no comment", b"data: : no comment\n\n")],
)  # fmt: skip
def test_a_piece_is_one_event_with_a_data_line_for_each_of_its_lines(piece: str, told: bytes) -> None:
    assert ServiceStream(elapsed(0), events=False).pieces(text(piece)) == told


def test_only_text_is_told() -> None:
    stream = ServiceStream(elapsed(0), events=False)
    assert stream.pieces([Piece(0, "reasoning", "hm", None), *text("a"), Piece(0, "finish", "stop", None)]) == (
        b"data: a\n\n"
    )


def test_the_end_tells_what_is_known_to_those_who_ask() -> None:
    stream = ServiceStream(elapsed(10, 12), events=True)
    stream.pieces([Piece(0, "finish", "length", None)])
    ((event, data),) = parsed(stream.end(Usage(7, 4, 3, None)))
    assert event == "done"
    assert json.loads(data) == {
        "finish_reason": "length", "prompt_tokens": 7, "cached_tokens": 3, "tokens": 4, "duration_seconds": 2,
        "tokens_per_second": 2,
    }  # fmt: skip


def test_an_error_in_a_stream_is_an_event_of_its_own_with_the_nested_object() -> None:
    ((event, data),) = parsed(ServiceStream(elapsed(0), events=False).error(to_wire(InvalidRequest("no\nway"))))
    assert event == "error"
    assert json.loads(data)["error"]["message"] == "no\nway"


def test_a_whole_answer_tells_its_text_and_its_speed() -> None:
    answer = ServiceAnswer("m", elapsed(1, 3))
    answer.add(text("a\r\n", " b"))
    assert json.loads(answer.body(Usage(1, 8, 0, None))) == {
        "text": "a\r\n b", "model": "m", "tokens": 8, "duration_seconds": 2, "tokens_per_second": 4,
    }  # fmt: skip
    assert json.loads(ServiceAnswer("m", elapsed(1)).body(None))["tokens_per_second"] == 0


@PATIENT
@given(st.lists(WRITTEN | st.sampled_from(["__ERROR__:", "__ERROR__:x", "__ERROR__:__ERROR__:", "_"])))
def test_plain_frames_are_the_text_and_never_look_like_an_error(pieces: list[str]) -> None:
    told = frames(PlainFrames(joined=False).pieces(text(*pieces)))
    assert "".join(told) == "".join(pieces)
    assert not any(frame.startswith("__ERROR__:") for frame in told)
    assert all(told), "an empty frame is a sign of life and nothing else"


@PATIENT
@given(st.lists(WRITTEN))
def test_json_frames_are_the_text(pieces: list[str]) -> None:
    told = [json.loads(frame) for frame in frames(JsonFrames(elapsed(0), joined=False).pieces(text(*pieces)))]
    assert [frame["text"] for frame in told] == [piece for piece in pieces if piece]


def test_pieces_that_come_together_are_one_frame_where_frames_are_dear() -> None:
    for renderer in (PlainFrames(joined=True), JsonFrames(elapsed(0), joined=True)):
        assert len(frames(renderer.pieces(text("a", "b")))) == 1
        assert frames(renderer.pieces([])) == []


@pytest.mark.parametrize(
    ("model", "target", "device"),
    [
        ({"device": "cuda"}, "modal", "cuda"),
        ({}, "modal", "cuda"),
        ({"device": "cpu"}, "modal", "cpu"),
        ({"device": "metal", "engine": "llamacpp"}, "modal", "metal"),
        ({"device": "cuda", "engine": "llamacpp"}, "modal", "cpu"),
        ({"device": "cuda"}, "local", "cpu"),
        ({"device": "cuda", "local_engine": "scripted"}, "local", "cpu"),
        ({"device": "cuda", "local_engine": "sglang"}, "local", "cpu"),
    ],
)
def test_where_a_model_runs_is_told_by_the_settings(model: Json, target: Any, device: str) -> None:
    one = Model(id="m", name="m", **model)
    settings = Settings(models=Models(available_models=(one,)))
    settings = settings.model_copy(update={"deploy": settings.deploy.model_copy(update={"target": target})})
    assert device_of(one, settings) == device


def test_a_device_that_is_not_there_is_warned_of() -> None:
    assert fallback(None, "cpu", model="m") is None
    assert fallback("cpu", "cpu", model="m") is None
    warning = fallback("cuda", "cpu", model="m")
    assert warning is not None
    assert device_headers("cpu", warning) == [
        (b"x-device", b"cpu"),
        (b"warning", b"299 - \"the device 'cuda' is not there for the model 'm': it runs on 'cpu'\""),
    ]
    assert device_headers("cpu", None) == [(b"x-device", b"cpu")]
