"""The doctor says what is wrong with a service that does not run yet, and what to do about it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from infra.doctor.__main__ import main
from infra.doctor.engines import wrong_with
from infra.doctor.examination import examine
from infra.doctor.findings import Case, Finding
from infra.doctor.machine import got, packages, port, python
from infra.doctor.protection import check_protection, config_file
from infra.doctor.state import check_state, clock_finding
from infra.model_files import ROOT
from infra.settings import Model, Models, Security, Server, Settings, State
from tests.ports import lasting_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest

SECRET = "as-never-to-be-told"


def case_of(settings: Settings | None = None, **how: Any) -> Case:
    return Case(settings or Settings(), how.pop("environment", {}), **how)


def found(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_other_pythons_than_those_that_are_tested_fail() -> None:
    assert [python((3, minor, 1)).level for minor in (10, 11, 13, 14)] == ["FAIL", "OK", "OK", "FAIL"]


def test_packages_are_compared_with_the_lock(tmp_path: Path) -> None:
    import pydantic

    lock = tmp_path / "run.txt"
    lock.write_text(f'pydantic=={pydantic.VERSION} \\\n    --hash=sha256:0\nnone==1 ; sys_platform == "none" \\\n')
    assert packages([lock]) == Finding("packages", "OK", "all 1 at their versions")
    lock.write_text("pydantic==0.1 \\\n")
    assert packages([lock]).level == "WARN"
    lock.write_text("no-such-package==1 \\\npydantic==0.1\n")
    assert (packages([lock]).level, packages([lock]).do) == ("FAIL", "make setup")


def test_a_port_that_something_else_has_fails() -> None:
    with socket.socket() as other:
        taken = lasting_port()
        other.bind(("127.0.0.1", taken))
        finding = port("127.0.0.1", taken)
        assert finding.level == "FAIL"
        assert "SERVER_PORT" in finding.do
    assert port("127.0.0.1", taken).level == "OK"


class _Proxy(BaseHTTPRequestHandler):
    """Tells what it was asked for: a path, or a whole address by whom it takes for its proxy."""

    def do_GET(self) -> None:
        body = json.dumps(self.path).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_a_proxy_is_asked_for_what_is_elsewhere_and_not_for_this_machine_s_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HTTPServer(("127.0.0.1", 0), _Proxy) as here:
        threading.Thread(target=here.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{here.server_port}"
        monkeypatch.setenv("HTTP_PROXY", url)
        assert got(f"{url}/health") == "/health"
        assert got(f"http://localhost:{here.server_port}/health") == "/health"
        assert got("http://elsewhere.invalid/health") == "http://elsewhere.invalid/health"
        here.shutdown()


def test_a_clock_is_right_to_a_minute_and_useless_from_five_on() -> None:
    assert [clock_finding(skew, "FAIL").level for skew in (-59, 61, 299, -301)] == ["OK", "WARN", "WARN", "FAIL"]
    assert "301 s behind AWS" in clock_finding(-301, "FAIL").says


def test_model_files_are_looked_into(tmp_path: Path) -> None:
    assert wrong_with(tmp_path / "nothing", "llamacpp") == "there is nothing"
    assert "needs one .gguf file, and there are 0" in str(wrong_with(tmp_path, "llamacpp"))
    (tmp_path / "a.gguf").write_bytes(b"<html>404")
    assert wrong_with(tmp_path, "llamacpp") == "a.gguf is not a GGUF file"
    (tmp_path / "a.gguf").write_bytes(b"GGUF\3")
    assert wrong_with(tmp_path, "llamacpp") is None
    assert "config.json" in str(wrong_with(tmp_path, "sglang"))
    assert wrong_with(ROOT / "functions/demo/model", "sglang") is None


def test_a_configuration_that_others_can_read_holds_no_secret(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('# key = "sk-comment"\n[[security.api_keys]]\nkey = "sha256:00"\n')
    file.chmod(0o644)
    assert config_file(file).level == "OK"
    file.write_text('[models]\nhf_token = "hf_x"\n')
    assert config_file(file).level == "WARN"
    file.chmod(0o600)
    assert config_file(file).level == "OK"


def test_what_only_a_deploy_lacks_warns_and_fails_who_wants_to_deploy() -> None:
    assert [found(check_protection(case_of(form=form)))["keys for modal"].level for form in (None, "modal")] == [
        "WARN",
        "FAIL",
    ]
    assert "keys for modal" not in found(check_protection(case_of(form="serve")))
    public = Settings(security=Security(allow_public=True), state=State(kind="memory"))
    assert found(check_protection(case_of(public, form="modal")))["keys for modal"].level == "WARN"
    assert found(check_protection(case_of(Settings(server=Server(host="0.0.0.0")))))["keys for serve"].level == "FAIL"


def test_a_check_that_hangs_or_breaks_is_told_and_holds_up_nobody() -> None:
    released = threading.Event()

    def hangs(_: Case) -> Iterator[Finding]:
        released.wait()
        yield Finding("late", "OK", "too late")

    def breaks(_: Case) -> Iterator[Finding]:
        raise RuntimeError("on purpose")
        yield

    (late,) = examine(case_of(), seconds=0.1, checks={"hangs": hangs})
    released.set()
    assert (late.check, late.level, late.says) == ("hangs", "FAIL", "no answer within 0.1 s")
    (broken,) = examine(case_of(), seconds=60, checks={"breaks": breaks})
    assert broken.level == "FAIL"
    assert "on purpose" in broken.says


def test_no_secret_is_told_whoever_says_it() -> None:
    def tells(case: Case) -> Iterator[Finding]:
        yield Finding("it", "FAIL", f"refused: {SECRET} and hf_confidential", f"use another than {SECRET}")

    settings = Settings(models=Models(hf_token=SecretStr("hf_confidential")))
    case = case_of(settings, environment={"MODAL_TOKEN_SECRET": SECRET})
    assert [*examine(case, seconds=60, checks={"it": tells})] == [
        Finding("it", "FAIL", "refused: … and …", "use another than …")
    ]


def test_a_configuration_that_cannot_be_read_is_all_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVER__PORT", "x")
    assert main(["--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [one["check"] for one in told["checks"]] == ["configuration"]
    assert "server.port: expected a valid integer" in told["checks"][0]["says"]


@pytest.fixture
def aws_environment(aws_server: Aws, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    environment = aws_server.environment()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return environment


def stored(state: StateOfTest, **settings: Any) -> Settings:
    return Settings(state=State(kind="aws", table=state.name, bucket=state.name), **settings)


@pytest.mark.slow
@pytest.mark.usefixtures("aws_environment")
def test_table_and_bucket_are_as_they_must_be_or_it_says_what_they_lack(aws_state: StateOfTest) -> None:
    told = found(check_state(case_of(stored(aws_state))))
    assert {check: finding.level for check, finding in told.items()} == {
        "aws credentials": "OK", "clock": "OK", "table": "OK", "bucket": "OK",
    }  # fmt: skip

    nowhere = Settings(state=State(kind="aws", table="t-nowhere", bucket="t-nowhere"))
    told = found(check_state(case_of(nowhere)))
    assert (told["table"].level, told["table"].do) == ("FAIL", "make it: python -m infra.setup")
    assert told["bucket"].level == "FAIL"

    dynamodb, s3 = aws_state.admin.client("dynamodb"), aws_state.admin.client("s3")
    name = {"TableName": "t-other-shape"}
    dynamodb.create_table(
        **name, BillingMode="PAY_PER_REQUEST", KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    s3.create_bucket(Bucket="t-bare")
    other = Settings(state=State(kind="aws", table="t-other-shape", bucket="t-bare"))
    told = found(check_state(case_of(other)))
    dynamodb.delete_table(**name)
    s3.delete_bucket(Bucket="t-bare")
    assert told["table"].level == "FAIL"
    assert "other keys or indexes" in told["table"].do
    assert told["bucket"].level == "WARN"
    assert "no public access" in told["bucket"].says


@pytest.mark.slow
@pytest.mark.usefixtures("aws_environment")
def test_a_clock_that_is_off_is_told_by_the_date_of_awss_answer(aws_state: StateOfTest) -> None:
    told = found(check_state(case_of(stored(aws_state), now=lambda: time.time() + 3600)))
    assert told["clock"].level == "FAIL"
    assert "ahead of AWS" in told["clock"].says


@pytest.mark.slow
@pytest.mark.usefixtures("aws_environment")
def test_keys_that_are_asked_for_and_nowhere_fail(aws_state: StateOfTest) -> None:
    case = case_of(stored(aws_state, security=Security(enable_auth=True)), form="serve")
    finding = found(check_protection(case))["keys for serve"]
    assert finding.level == "FAIL"
    assert "infra.admin keys create" in finding.do


def doctor(*arguments: str, **environment: str) -> tuple[int, dict[str, dict[str, str]], str]:
    done = subprocess.run(
        [sys.executable, "-m", "infra.doctor", "--json", *arguments], cwd=ROOT, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["checks"]}, done.stdout + done.stderr


@pytest.mark.slow
def test_without_a_network_it_ends_with_what_to_do_and_tells_no_secret() -> None:
    nothing = "http://127.0.0.1:9"
    model = Model(id="far", name="somebody/far").model_dump_json()
    status, told, text = doctor(
        "--timeout", "60", AWS_ENDPOINT_URL=nothing, MODAL_SERVER_URL=nothing, HF_ENDPOINT=nothing, HF_TOKEN=SECRET,
        AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="eu-central-1",
        API_KEY=f"sk-{SECRET}", MODAL_TOKEN_ID="ak-x", MODAL_TOKEN_SECRET=SECRET, STATE__KIND="aws",
        MODELS__AVAILABLE_MODELS=f"[{model}]", SERVER_PORT="0",
    )  # fmt: skip
    assert status == 1
    assert SECRET not in text
    assert told["clock"]["level"] == "FAIL"
    assert "does not answer" in told["clock"]["says"]
    assert told["hugging face"]["level"] == "WARN"
    assert (told["modal token"]["level"], told["modal token"]["says"][:21]) == ("WARN", "Modal does not answer")
    assert all(one["do"] for one in told.values() if one["level"] != "OK")


@pytest.mark.slow
def test_what_setup_makes_on_modal_is_looked_for_there() -> None:
    from emulator.emulator import Emulator

    with Emulator() as emulator:
        where = {**emulator.environment, "STATE__KIND": "memory", "ENABLE_AUTH": "true", "API_KEY": "sk-of-somebody"}
        status, told, _ = doctor("--for", "modal", **where)
        assert status == 1
        assert told["modal token"]["level"] == "OK"
        assert (told["modal secrets"]["level"], told["modal secrets"]["do"]) == ("FAIL", "python -m infra.setup")
        assert told["proxy token"]["level"] == "FAIL"
        assert told["modal app"]["says"] == "llm is not deployed"

        setup = [sys.executable, "-m", "infra.setup"]
        subprocess.run(setup, cwd=ROOT, env={**os.environ, **where}, check=True, capture_output=True, timeout=60)
        status, told, text = doctor("--for", "modal", **where)
        assert status == 0, text
        assert told["modal secrets"]["level"] == told["proxy token"]["level"] == "OK"
        assert "port" not in told
