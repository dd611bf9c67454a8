"""The OpenAPI document, tried by schemathesis: every operation, with data that fits and data that does not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conformance import environments
from tests.conformance.clients.harness import COLD

if TYPE_CHECKING:
    from tests.conformance.targets import Target

Json = dict[str, Any]

SEED = "1"
"""A run can be repeated: what it finds is of the change, not of the day."""
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SECONDS = 75
EXAMPLES = 6
"""For each operation, beside those that cover its schema's bounds one by one."""
DESTRUCTIVE = ("/load", "/unload")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What was tried, and what was found."""

    version: str
    operations: int
    cases: int
    answered: dict[str, int]
    """Of the cases with data that fits: how many were accepted, rejected (4xx), …"""
    failures: list[str]
    untried: list[str]
    told: str
    """What schemathesis printed."""

    def summary(self) -> str:
        told = ", ".join(f"{count} {kind}" for kind, count in self.answered.items() if count)
        return f"{self.operations} operations, {self.cases} cases ({told}), {len(self.failures)} failures"


def document_of(target: Target) -> Json:
    request = urllib.request.Request(
        f"{target.url}/openapi.json", headers={"Authorization": f"Bearer {target.api_key}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        document: Json = json.load(answer)
        return document


def try_out(target: Target) -> Trial:
    """Run schemathesis against the target. Raises CannotInstall."""
    program = environments.python("schemathesis").program.with_name("schemathesis")
    document = naming_models(document_of(target), target)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "openapi.json").write_text(json.dumps(document))
        command = [
            program, "--config-file", CONFIGURATION, "run", folder / "openapi.json",
            "--url", target.url, "--phases", "examples,coverage,fuzzing",
            "--header", f"Authorization: Bearer {target.api_key}", "--max-examples", str(EXAMPLES),
            "--max-time", str(SECONDS), "--continue-on-failure", "--seed", SEED,
            "--request-timeout", "20", "--no-color", "--suppress-health-check", "all", "--no-shrink",
            "--report", "json", "--report-json-path", folder / "report.json", "--generation-database", "none",
        ]  # fmt: skip
        done = subprocess.run(
            [str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=3 * SECONDS,
            check=False, env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )  # fmt: skip
        report = folder / "report.json"
        if not report.exists():
            raise RuntimeError(f"schemathesis ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return _read(json.loads(report.read_text()), done.stdout)


def naming_models(document: Json, target: Target) -> Json:
    """The document, in which a model is one that is there: made-up names would all end at the same 404."""
    sent = sent_in(document)
    for name, schema in document["components"]["schemas"].items():
        if name not in sent:
            continue
        there = target.embedding_model if name.endswith("EmbeddingsRequest") else target.model
        for label in ("model", "model-name", "model_name"):
            if label in schema.get("properties", {}):
                schema["properties"][label] = {"type": "string", "enum": [there]}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if (parameter["name"], parameter["in"]) == ("model", "path"):
                    there = COLD if path.endswith(DESTRUCTIVE) else target.model
                    parameter["schema"] = {"type": "string", "enum": [there]}
    return document


def sent_in(document: Json) -> set[str]:
    """The schemas of what callers send: what the service answers is held to what the document says of it."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    bodies = json.dumps([operation.get("requestBody") for operation in operations])
    return set(re.findall(r'"#/components/schemas/([^"]+)"', bodies))


def _read(report: Json, told: str) -> Trial:
    answered: dict[str, int] = {}
    for phases in report["valid_rates"].values():
        for counts in phases.values():
            for kind, count in counts.items():
                answered[kind] = answered.get(kind, 0) + count
    failures = [
        f"{failure['title']} ({failure['code']}): {', '.join(map(str, failure['operations']))}"
        for failure in report["failures"]
    ]
    failures += [f"error: {error}" for error in report["errors"]]
    counted = report["operations"]
    return Trial(
        version=report["schemathesis_version"], operations=counted["tested"], cases=report["test_cases"]["generated"],
        answered=answered, failures=failures, untried=counted["skip_reasons"], told=told,
    )  # fmt: skip
