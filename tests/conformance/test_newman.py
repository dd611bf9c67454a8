"""The Postman collection passes in newman: its examples' assertions, and a documented status of every operation."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conformance import environments
from tests.conformance.targets import needs

if TYPE_CHECKING:
    from tests.conformance.targets import Target

HERE = Path(__file__).parent
COLLECTION = HERE.parents[1] / "docs/postman/llm.postman_collection.json"


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_collection_passes(target: Target, tmp_path: Path) -> None:
    needs(target, "own-dialect")
    if target.name == "emulator":
        pytest.skip("it is the same document, and run standalone")
    try:
        environment = environments.node(HERE / "newman", "newman")
    except environments.NotOnThisMachine as error:
        pytest.skip(f"newman cannot be run here: {error}")
    report = tmp_path / "report.json"
    given = {
        "base_url": target.url, "api_key": target.api_key, "model": target.model,
        "embedding_model": target.embedding_model or target.model,
    }  # fmt: skip
    variables = [word for name, value in given.items() for word in ("--env-var", f"{name}={value}")]
    newman = environment.folder / "node_modules/newman/bin/newman.js"
    command = [environment.program, newman, "run", COLLECTION, *variables, "--reporters", "json",
               "--reporter-json-export", report, "--timeout-request", "60000", "--color", "off"]  # fmt: skip
    done = subprocess.run(
        [str(word) for word in command], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert report.exists(), done.stdout + done.stderr
    run = json.loads(report.read_text(encoding="utf-8"))["run"]
    failures = [f"{one['source'].get('name')}: {one['error']['message']}" for one in run["failures"]]
    assert failures == []
    assert run["stats"]["requests"]["total"] >= 75
    assert run["stats"]["assertions"]["total"] >= 150
