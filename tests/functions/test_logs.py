"""Containers log at the configured level, one JSON object a line, and nothing that is secret."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from typing import Any

import pytest

from functions.log_format import JsonLines, TextLines
from web.record import Record, recorded

CODE = """
import json, logging, sys
from functions.logs import configure_logging
from infra.settings import Settings
from web.errors import ReaderStalled
client = logging.getLogger("modal-client")
client.addHandler(logging.StreamHandler(sys.stderr))
for case in json.load(sys.stdin):
    configure_logging(Settings(**case))
    configure_logging(Settings(**case))
    logging.getLogger("functions.x").info("ours")
    logging.getLogger("functions.x").debug("our details")
    logging.getLogger("botocore.endpoint").debug("a request, whole")
    logging.getLogger("botocore.credentials").info("found")
    logging.getLogger("botocore.credentials").warning("too old")
    logging.getLogger("functions.x").info("%d", "no number")
    client.warning("theirs")
    for error in (ReaderStalled(40), KeyError("a mistake")):
        try:
            raise error
        except Exception:
            logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    print("end of the case", file=sys.stderr)
"""
LOST = "a line of the log was lost: TypeError of functions.x"
CUT = "a connection was cut: write_timeout"
FAILED = "Exception in ASGI application"


def line_of(text: str) -> str:
    return str(json.loads(text)["message"]) if text.startswith("{") else text


def test_the_level_is_obeyed_nothing_is_said_twice_and_libraries_details_only_where_prompts_may_be_told() -> None:
    cases: list[dict[str, Any]] = [
        {"server": {"log_level": level}, "observability": {"log_prompts": prompts}}
        for level, prompts in (
            ("trace", True),
            ("info", False),
            ("warn", False),
            ("debug", False),
            ("trace", False),
            ("error", False),
        )
    ]
    done = subprocess.run(
        [sys.executable, "-c", CODE], input=json.dumps(cases), capture_output=True, text=True, check=True
    )
    told = [
        [line_of(line) for line in case.splitlines()] for case in done.stderr.split("end of the case\n")[:-1]
    ]  # fmt: skip
    said = ["ours", "our details", "a request, whole", "found", "too old", LOST, "theirs", CUT, FAILED]
    assert told[0] == said
    assert told[1] == [one for one in said if one not in ("our details", "a request, whole", "found")]
    assert told[2] == ["too old", "theirs", CUT, FAILED]
    assert told[3] == told[4] == [one for one in said if one != "a request, whole"]
    assert told[5] == [FAILED]
    assert done.stderr.count("a mistake") == 1  # what may be of a request is not quoted, unless that is asked for
    assert "KeyError" in done.stderr


def record_of(message: str, *arguments: object, error: BaseException | None = None, **extra: object) -> Any:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return logging.getLogger("web.x").makeRecord("web.x", 30, "x.py", 1, message, arguments, trace, extra=extra)


def caught(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as raised:
        return raised


def test_a_line_has_its_time_in_utc_its_level_and_the_ids_of_what_it_was_written_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MODAL_TASK_ID", "ta-123")
    with recorded(Record(request_id="req_1", batch_id="batch_1")) as record:
        record.model = "demo"
        line = json.loads(JsonLines(fixed={"engine": "e"}).format(record_of("%s waits", "it", seconds=1.5)))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warn", "logger": "web.x", "message": "it waits", "request_id": "req_1", "batch_id": "batch_1",
        "model": "demo", "container": "ta-123", "engine": "e", "seconds": 1.5,
    }  # fmt: skip
    assert "request_id" not in json.loads(JsonLines().format(record_of("later")))


@pytest.mark.parametrize("lines", [JsonLines(), TextLines()], ids=["json", "text"])
@pytest.mark.parametrize("sign", ["\n", "\r\n", "\x0b", "\x1b[2J", "\x7f", "\x85", "\u2028", "\x00", "\ud800"])
def test_no_message_and_no_field_begins_a_line_of_its_own_or_moves_the_cursor(
    lines: logging.Formatter, sign: str
) -> None:
    text = lines.format(record_of("from %s", f"a{sign}b", field=f"c{sign}d"))
    assert len(text.splitlines()) == 1
    assert text.isascii() or sign == "\ud800"
    assert not set(sign) & set(text) - set("[2J") or sign == "\ud800"


def test_an_error_is_told_with_what_it_came_from_but_without_words_that_may_quote_a_request() -> None:
    error = caught(ValueError("the prompt"), caught(OSError(28, "No space left on device")))
    group = caught(ExceptionGroup("several", [error, caught(KeyError("the answer"))]))
    with recorded(Record(request_id="req_1")):
        quiet = json.loads(JsonLines().format(record_of("failed", error=group)))["exception"]
        open_ = json.loads(JsonLines(withhold=False).format(record_of("failed", error=group)))["exception"]
    assert "the prompt" not in quiet
    assert "the answer" not in quiet
    for told in ("ValueError: (its words are left out", "KeyError: (its", "No space left", "in caught", "Traceback"):
        assert told in quiet
    assert "ValueError: the prompt" in open_
    text = TextLines().format(record_of("failed", error=caught(TypeError("1\n2"))))
    assert text.splitlines()[-1] == "  TypeError: 1\\n2" or text.endswith("  TypeError: 1\n  2")


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"said": "--api-key\n=abcdef"}, {"said": "--api-key\n=***"}),
        ({"said": 'api_key:\tabcdef "x"'}, {"said": 'api_key:\t*** "x"'}),
        ({"said": 'Authorization: Digest a="b, c', "next": 1}, {"said": "Authorization: Digest ***", "next": 1}),
        ({"authorization": 'Digest a="b", c=d', "next": 1}, {"authorization": "Digest ***", "next": 1}),
        ({"said": "sk-abcdef123", "api_key": None}, {"said": "***", "api_key": None}),
        ({"said": 1, "api_key": 12345}, {"said": 1, "api_key": "***"}),
    ],
)
def test_a_line_of_which_a_key_was_struck_out_is_json_still(fields: dict[str, Any], left: dict[str, Any]) -> None:
    record = logging.makeLogRecord({"msg": "x", **fields})
    told = json.loads(JsonLines().format(record))
    assert {name: told[name] for name in fields} == left
