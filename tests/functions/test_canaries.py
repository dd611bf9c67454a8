"""A whole service that says as much as it may, with state and traces: nothing that is secret and nothing that was said
is in what it writes, however a request goes."""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import connect

from tests.functions.test_standalone import ROOT, environment, running
from tests.service.deployment import DEMO, scripted, until
from tests.web.collector import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest
    from tests.functions.test_standalone import Standalone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SAID = "canary-said-41c7"
"""In whatever callers say, and wherever: prompts, paths, queries, headers, files, what is no HTTP."""
ANSWERED = "canary-answered-9be2"
KEY = "sk-" + secrets.token_hex(20)
WRONG_KEY = "sk-" + secrets.token_hex(20)
AWS_SECRET = "canaryAwsSecret/" + secrets.token_hex(12)
HUB = "hf_" + 17 * "cN"
MODELS: list[dict[str, Any]] = [DEMO, scripted("m", scaledown_window=300), scripted("crashes", scaledown_window=300)]
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "x-canary": SAID, "user-agent": SAID}


def settings(aws: Aws, state: StateOfTest, collector: Collector, folder: Path) -> dict[str, str]:
    key = {"key": KEY, "name": "production", "scopes": ["inference", "admin", "metrics"]}
    return {
        **aws.environment(), "AWS_SECRET_ACCESS_KEY": AWS_SECRET, "HF_TOKEN": HUB, "TMPDIR": str(folder),
        "STATE__KIND": "aws", "STATE__TABLE": state.name, "STATE__BUCKET": state.name,
        "SECURITY__ENABLE_AUTH": "true", "SECURITY__API_KEYS": json.dumps([key]), "LOG_LEVEL": "trace",
        "OBSERVABILITY__OTLP_ENDPOINT": collector.url, "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "10000",
    }  # fmt: skip


def ask(service: Standalone, path: str, body: Any = None, *, method: str = "POST", **headers: str) -> tuple[int, bytes]:
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    asked = urllib.request.Request(service.url + path, data=data, method=method, headers=HEADERS | headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def chat(model: str = "m", **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": f"system {SAID}"}, {"role": "user", "content": SAID}]
    return {"model": model, "messages": messages, "user": SAID, "stop": [SAID], "x_scripted": script(), **more}


def script(**more: Any) -> dict[str, Any]:
    return {"text": f"a {ANSWERED} b", "reasoning": ANSWERED, **more}


def all_goes_well(service: Standalone) -> None:
    tool = {"type": "function", "function": {"name": SAID, "description": SAID, "parameters": {"type": "object"}}}
    for body in (chat(), chat(stream=True), chat(tools=[tool]), chat("demo", max_tokens=4)):
        status, answer = ask(service, "/v1/chat/completions", body)
        assert status == 200, answer
    said: dict[str, Any] = {"model": "m", "x_scripted": script()}
    for path, body in {
        "/v1/completions": {"prompt": SAID}, "/completions": {"prompt": SAID}, "/tokenize": {"prompt": SAID},
        "/v1/messages": {"max_tokens": 9, "messages": [{"role": "user", "content": SAID}]},
        "/v1/responses": {"input": SAID, "instructions": SAID, "metadata": {"x": SAID}},
        "/chat/completions": {"model-name": "m", "prompt": SAID, "session-id": "s1"},
    }.items():  # fmt: skip
        status, answer = ask(service, path, {**said, **body})
        assert status == 200, (path, answer)
    assert SAID.encode() in ask(service, "/chat/history/s1", method="GET")[1], "it is kept, where it belongs"
    assert ask(service, "/chat/history/s1/rollback", {})[0] == 200
    address = service.url.replace("http", "ws", 1) + "/chat/ws?session_id=s2&x=" + SAID
    with connect(address, additional_headers=HEADERS, proxy=None) as frames:
        frames.send(json.dumps({"model-name": "m", "prompt": SAID, "x_scripted": script()}))
        assert ANSWERED in "".join(str(frames.recv(timeout=60)) for _ in range(3))
        frames.send(f"{{ {SAID}")
        assert "__ERROR__" in str(frames.recv(timeout=60))


def a_batch(service: Standalone) -> None:
    line = {"custom_id": SAID, "method": "POST", "url": "/v1/chat/completions", "body": chat()}
    lines = json.dumps(line) + "\n" + json.dumps({**line, "custom_id": "x", "body": chat(SAID)}) + "\n"
    part = "--b\r\ncontent-disposition: form-data; name="
    form = f'{part}"purpose"\r\n\r\nbatch\r\n{part}"file"; filename="{SAID}.jsonl"\r\n\r\n{lines}\r\n--b--\r\n'
    status, file = ask(service, "/v1/files", form.encode(), **{"content-type": "multipart/form-data; boundary=b"})
    assert status == 200, file
    batch: dict[str, Any] = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "metadata": {"x": SAID}}
    batch |= {"input_file_id": json.loads(file)["id"]}
    status, made = ask(service, "/v1/batches", batch)
    assert status == 200, made
    path = f"/v1/batches/{json.loads(made)['id']}"
    until(lambda: json.loads(ask(service, path, method="GET")[1])["status"] in ("completed", "failed"), within=60)


def all_goes_wrong(service: Standalone) -> None:
    flat = {"object": "error", "message": f"{SAID} {ANSWERED}", "type": SAID, "code": 500}
    at = "/v1/chat/completions"
    for wrong in ({"error_after": 0}, {"error_after": 2}, {"error_after": 0, "error_status": 400}, {"cut_after": 1}):
        more = {"error_body": flat} if "error_after" in wrong else {}
        for stream in (True, False):
            with contextlib.suppress(OSError):
                ask(service, at, chat(stream=stream, x_scripted=script(**wrong, **more)))
    assert ask(service, at, chat("crashes", x_scripted=script(crash_after=1)))[0] >= 500
    assert ask(service, at, chat("demo", messages=[{"role": "user", "content": SAID * 9999}]))[0] == 400
    for body in (f'{{"messages": "{SAID}'.encode(), chat(max_tokens=SAID), chat(SAID), chat(messages=SAID), [SAID],
                 b'{"x": "\xff' + SAID.encode(), b"[" * 9999, chat(n=SAID), chat(response_format={"type": SAID}),
                 {**chat(), SAID: {SAID: SAID}}, chat(tools=[SAID])):  # fmt: skip
        for path in (at, "/v1/messages", "/v1/responses", "/v1/files", "/v1/batches", "/v1/embeddings", "/completions"):
            ask(service, path, body)
    assert ask(service, f"/{SAID}?{SAID}={KEY}", method="GET")[0] == 404
    assert ask(service, at, chat(), authorization=f"Bearer {WRONG_KEY}")[0] == 401
    where = urlsplit(service.url)
    request = f"POST {at} HTTP/1.1\r\nHost: {SAID}\r\nAuthorization: Bearer {KEY}\r\n"
    stream = json.dumps(chat(stream=True, x_scripted=script(tokens=9, hang_after=1))).encode()
    for data in (f"{SAID}\r\n\r\n".encode(), f"{request}X: {SAID * 9999}\r\n\r\n".encode(),
                 f"{request}Transfer-Encoding: chunked\r\n\r\n{SAID}".encode(),
                 f"{request}Content-Length: {len(stream)}\r\n\r\n".encode() + stream):  # fmt: skip
        with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=60) as caller:
            caller.sendall(data)
            caller.recv(64)  # and leaves


def engine_key(service: Standalone) -> str:
    """That of this start, which engines have in their environment."""
    (engine,) = service.engines("functions.engines.scripted")
    variables = Path(f"/proc/{engine}/environ").read_bytes().split(b"\0")
    (key,) = (one for one in variables if one.startswith(b"SCRIPTED_API_KEY="))
    return key.partition(b"=")[2].decode()


def the_doctor_and_the_check(service: Standalone, variables: dict[str, str]) -> Iterator[str]:
    for command in (
        ["-m", "infra.doctor", "--for", "serve", "--url", service.url],
        ["-m", "functions.standalone", "--check"],
    ):
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment(MODELS, **variables), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert len(done.stdout) > 500, done.stderr
        yield done.stdout + done.stderr


def test_nothing_that_is_secret_or_was_said_is_in_what_a_service_writes(
    aws_server: Aws, aws_state: StateOfTest, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    with Collector() as collector:
        variables = settings(aws_server, aws_state, collector, folder)
        with running(tmp_path / "log", MODELS, **variables) as service:
            all_goes_well(service)
            a_batch(service)
            engines_key = engine_key(service)
            all_goes_wrong(service)
            status, metrics = ask(service, "/metrics", method="GET")
            assert status == 200
            looked = "".join(the_doctor_and_the_check(service, variables))
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(timeout=60) == 0
            assert service.process.stdout is not None
            output = service.process.stdout.read()
        spans = collector.raw
    log = (tmp_path / "log").read_text()
    left = b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
    kept = repr([[getattr(value, "value", value) for value in item.values()] for item in aws_state.items()]) + "".join(
        str(aws_state.admin.client("s3").get_object(Bucket=aws_state.name, Key=name)["Body"].read())
        for name in aws_state.objects()
    )

    lines = [json.loads(line) for line in log.splitlines()]
    by = {name: [line for line in lines if line["logger"].startswith(name)] for name in ("web.access", "functions.eng")}
    assert len(by["web.access"]) > 80, "all of it was told"
    assert by["functions.eng"], "engines' own words too"
    assert {line["level"] for line in lines} >= {"debug", "info", "warn"}
    assert {line["status"] for line in by["web.access"]} >= {200, 400, 401, 404, 431, 502}
    assert any(line.get("client_left") for line in by["web.access"])
    assert len(spans) > 1000 and b"chat_completions" in metrics and SAID in kept

    keys = {"key": KEY, "wrong key": WRONG_KEY, "AWS's": AWS_SECRET, "Hugging Face's": HUB, "engines'": engines_key}
    written = {"log": log, "output": output, "spans": spans, "metrics": metrics, "looked": looked, "left": left}
    for name, text in written.items():
        told = text if isinstance(text, str) else text.decode(errors="replace")
        for what, canary in {**keys, "said": SAID, "answered": ANSWERED}.items():
            at = told.find(canary)
            assert at < 0, f"{what} is in the {name}: …{told[max(0, at - 400) : at + 60]}…"
    for what, key in keys.items():
        assert key not in kept, f"{what} key is kept"
