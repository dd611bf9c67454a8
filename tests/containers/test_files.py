"""The Dockerfile, the compose file and the unit say what those who read them take, and name what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from functions.images import SGLANG_IMAGE
from functions.standalone import settings_here
from infra.model_files import ROOT
from infra.settings import Web
from tests.ports import free_port

DOCKER = ROOT / "infra/docker"
COMPOSE = DOCKER / "compose.yaml"
DOCKERFILE = DOCKER / "Dockerfile"
UNIT = ROOT / "infra/systemd/llm.service"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    told: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return told


def judged(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_compose_file_and_the_workflow_are_ones_by_their_specifications() -> None:
    judged(sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    judged(
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        ROOT / "infra/ci/github-deploy.yml",
    )


@pytest.mark.slow
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    judged(BIN / "hadolint", "--failure-threshold", "warning", DOCKERFILE)


@pytest.mark.slow
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    program = tmp_path / "python"  # that of /opt/llm is not there
    program.touch(mode=0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/llm/.venv/bin/python", str(program)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])


def test_the_services_are_the_ones_that_are_promised_at_their_ports(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["llm-cpu"]["profiles"] == ["cpu"]
    assert services["llm-gpu"]["profiles"] == ["gpu"]
    assert services["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]
    assert services["grafana"]["ports"] == ["127.0.0.1:3002:3000"]
    assert services["llm-cpu"]["ports"] == ["${BIND:-127.0.0.1}:${PORT:-3000}:3000"]


def test_no_container_that_is_given_a_secret_of_the_environment_is_read_only(compose: dict[str, Any]) -> None:
    """Compose writes such a secret into the container, and refuses to start one that it cannot write into."""
    of_environment = {name for name, told in compose["secrets"].items() if "environment" in told}
    given = [one for one in compose["services"].values() if of_environment & {*one.get("secrets", ())}]
    assert given
    assert not any(one.get("read_only") for one in given)


def test_what_is_mounted_and_copied_is_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", ()):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            source = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", source)
            assert source in ("../../config.toml", *compose["volumes"]) or (DOCKER / source).exists(), (name, source)
            assert source.startswith(".") or source in compose["volumes"], (name, source)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(), re.MULTILINE)
    assert copied
    for source in " ".join(copied).split():
        assert (ROOT / source).exists(), source
        assert not is_ignored(source), source


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps it from the builder: the last pattern that fits decides, for what is below too."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!").removeprefix("**/")
            if any(fnmatch(str(part), pattern) for part in [Path(path), *Path(path).parents[:-1]]):
                ignored = not line.startswith("!")
            elif line.startswith("!") and Path(path) in Path(pattern).parents:  # a folder of which something is wanted
                ignored = False
    return ignored


def test_no_configuration_and_no_key_gets_into_an_image() -> None:
    for path in ("config.toml", ".env", "infra/docker/.env", ".git", ".venv", "tests", "infra/docker/config.toml"):
        assert is_ignored(path), path


def test_the_images_are_those_that_the_service_is_tested_with_and_run_as_nobody() -> None:
    text = DOCKERFILE.read_text()
    assert f"ARG SGLANG_IMAGE={SGLANG_IMAGE}\n" in text
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)
    for stage in ("cpu", "gpu"):
        of_stage = re.split(r"^FROM ", text.split(f" AS {stage}\n")[1], maxsplit=1, flags=re.MULTILINE)[0]
        assert "\nUSER 10001:10001\n" in of_stage
        assert "\nHEALTHCHECK " in of_stage
        assert "--require-hashes" in text


class _Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.mark.slow
def test_the_images_health_is_asked_of_the_service_itself_whatever_proxy_there_is() -> None:
    checks = re.findall(r"HEALTHCHECK .*\\\n\s+CMD (.*)", DOCKERFILE.read_text())
    assert len(checks) == 2
    with HTTPServer(("127.0.0.1", 0), _Healthy) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        proxy = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": ""}
        for port, status in ((service.server_port, 0), (free_port(), 1)):
            for check in set(checks):
                _, *command = json.loads(check)
                variables = {**os.environ, **proxy, "SERVER_PORT": str(port)}
                done = subprocess.run([sys.executable, *command], env=variables, capture_output=True, check=False)
                assert done.returncode == status, done.stderr
        service.shutdown()


@pytest.mark.parametrize("name", ["config.toml", "config.gpu.toml"])
def test_the_configurations_of_the_containers_are_served(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIG_FILE", str(DOCKER / name))
    monkeypatch.setenv("SERVER_HOST", "0.0.0.0")
    monkeypatch.setenv(
        "SECURITY__API_KEYS", '[{"key": "sk-operator", "name": "operator", "scopes": ["inference", "admin"]}]'
    )
    settings = settings_here()
    assert settings.security.enable_auth
    assert settings.state.kind == "memory"


def test_a_container_is_given_the_time_that_draining_takes(compose: dict[str, Any]) -> None:
    unit = UNIT.read_text()
    for told in (
        compose["services"]["llm-cpu"]["stop_grace_period"],
        re.findall(r"TimeoutStopSec=(\d+)", unit)[0] + "s",
    ):
        assert float(told.removesuffix("s")) > Web().drain_seconds + 10


@pytest.mark.slow
def test_the_service_without_modal_needs_none_of_its_packages() -> None:
    judged(sys.executable, "-c", "import sys; sys.modules['modal'] = None; import functions.standalone")
