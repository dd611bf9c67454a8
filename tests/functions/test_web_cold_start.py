"""What a web container loads before its first answer: nothing that this has no use for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.web_import import ASK, GOAL, ratios

ROOT = Path(__file__).parents[2]
HEAVY = {
    "boto3": "0.3 s; the first request that touches the state's table or bucket",
    "botocore": "likewise",
    "fastapi": "0.3 s; the first request to a route that carries no tokens",
    "starlette": "with FastAPI; alone for the first browser's page of another origin",
    "uvicorn": "the form that is a Server; a web function has Modal's bridge",
    "opentelemetry.sdk": "where traces are configured",
    "opentelemetry.exporter": "likewise",
    "prometheus_client": "the first scrape",
    "sglang": "engines' containers",
    "torch": "likewise",
    "xllamacpp": "likewise",
    "transformers": "likewise",
    "jinja2": "likewise, for chat templates",
    "huggingface_hub": "where weights are fetched",
    "moto": "tests and the emulator",
    "emulator": "never: it is reached as Modal is",
    "typer": "commands at a terminal",
    "rich": "likewise",
    "pytest": "tests",
    "numpy": "nothing here",
    "requests": "nothing here, but OpenTelemetry's exporter",
    "web.dialects.anthropic_schema": "the first request in that dialect",
    "web.dialects.responses_schema": "likewise",
}
"""Module -> how long it takes, if that is much, and whose it is."""

CODE = (
    ASK
    + """
import json, sys
before = set(sys.modules)
import modal
of_modal = set(sys.modules) - before
import app as deployed  # what Modal imports in a container
from functions.endpoint import services_of
from infra.configuration import load_settings
from web.application import create_application
class Server:
    def get_url(self): return "http://127.0.0.1:1"
settings = load_settings()
assert settings.state.kind == "aws"
servers = {model.id: Server() for model in settings.models.available_models}
asyncio.run(ask(create_application(services_of(settings, servers, coalesce_seconds=0.0))))
print(json.dumps(sorted(set(sys.modules) - of_modal)))
"""
)


@pytest.mark.slow
def test_a_web_container_imports_nothing_that_its_first_answer_has_no_use_for(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": "/usr/bin:/bin",
        "STATE__REGION": "eu-central-1",
        "SECURITY__ALLOW_PUBLIC": "true",
        "STATE__SECRET": "aws",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout)
    found = {
        name: reason
        for name, reason in HEAVY.items()
        if any(module == name or module.startswith(name + ".") for module in loaded)
    }
    assert not found


@pytest.mark.slow
def test_it_takes_not_much_longer_than_a_bare_fastapi_application() -> None:
    built, answers = ratios(7)["ours"]
    # A quarter above what is aimed at: a busy machine's caches are shared. What is imported is checked exactly above.
    assert max(built, answers) <= GOAL * 1.25
