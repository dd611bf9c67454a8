"""`python -m infra.setup` makes what a deploy needs, once, with the real client against the emulator."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from tests.service.deployment import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


def setup(emulator: Emulator, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **emulator.environment, "STATE__KIND": "memory", **settings}
    command = [sys.executable, "-m", "infra.setup", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def secret(emulator: Emulator, name: str) -> dict[str, str]:
    (found,) = (item for item in emulator.core.state.secrets.values() if item.name == name)
    return dict(found.values)


@pytest.mark.slow
def test_it_makes_the_secrets_once_and_anew_when_told(emulator: Emulator) -> None:
    assert setup(emulator).stdout == "setup: Secrets llm-web and llm-engine made\n"
    web, engine = secret(emulator, "llm-web"), secret(emulator, "llm-engine")
    assert emulator.core.state.authorizes(web["PROXY_TOKEN_ID"], web["PROXY_TOKEN_SECRET"])
    assert engine == {"ENGINE_API_KEY": web["ENGINE_API_KEY"]}

    again = setup(emulator, HF_TOKEN="hf_later")
    assert again.stdout == "setup: Secrets llm-web and llm-engine were there already\n"
    assert secret(emulator, "llm-web") == web
    assert secret(emulator, "llm-engine") == {**engine, "HF_TOKEN": "hf_later"}

    assert setup(emulator, "--rotate").stdout == "setup: Secrets llm-web and llm-engine made\n"
    rotated = secret(emulator, "llm-web")
    assert rotated["ENGINE_API_KEY"] == secret(emulator, "llm-engine")["ENGINE_API_KEY"] != web["ENGINE_API_KEY"]
    assert emulator.core.state.authorizes(rotated["PROXY_TOKEN_ID"], rotated["PROXY_TOKEN_SECRET"])


@pytest.mark.slow
def test_table_and_bucket_are_made_once_and_only_looked_for_when_told(emulator: Emulator) -> None:
    dry = setup(emulator, "--dry-run", STATE__KIND="aws").stdout
    assert dry.startswith("setup: would make table llm-state\n")
    assert "Secret" not in dry
    assert setup(emulator, STATE__KIND="aws").stdout.startswith("setup: made table llm-state\n")
    again = setup(emulator, STATE__KIND="aws").stdout
    alone = setup(emulator, "--state-only", STATE__KIND="aws", DEPLOY__APP_NAME="alone", MODAL_TOKEN_ID="")
    assert (alone.returncode, "made table alone-state" in alone.stdout, "Secret" in alone.stdout) == (0, True, False)
    assert again.startswith("setup: table llm-state and bucket llm-state were there already\n")


@pytest.mark.slow
def test_who_has_no_credentials_of_aws_is_told_what_does_without(emulator: Emulator) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    done = setup(emulator, STATE__KIND="aws", **nobody)
    assert done.returncode == 1
    assert done.stderr.startswith("setup: AWS: dynamodb describe_table: Unable to locate credentials")
    assert 'state.kind = "memory"' in done.stderr


@pytest.mark.slow
def test_another_app_name_has_secrets_of_its_own(emulator: Emulator) -> None:
    assert setup(emulator, DEPLOY__APP_NAME="other").stdout == "setup: Secrets other-web and other-engine made\n"


def test_a_wrong_configuration_is_one_line(emulator: Emulator) -> None:
    done = setup(emulator, SERVER__PORT="x")
    assert done.returncode == 2
    assert done.stderr.startswith("environment: server.port: expected a valid integer")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_host_that_the_emulator_cannot_have_is_refused_where_it_would_be_on_the_emulator(emulator: Emulator) -> None:
    done = setup(emulator, DEPLOY__TARGET="local", SERVER__HOST="0.0.0.0")
    assert done.returncode == 2
    assert "the emulator listens on 127.0.0.1 only" in done.stderr
    assert "make serve" in done.stderr
    assert setup(emulator, SERVER__HOST="0.0.0.0").returncode == 0


@pytest.mark.slow
def test_a_client_without_an_account_is_one_line(emulator: Emulator) -> None:
    done = setup(emulator, MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET="")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("setup: Modal refused: Token missing")
