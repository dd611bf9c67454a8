"""Real clients, each in its own environment: every check in their scripts is a test here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.runs import CLIENTS

if TYPE_CHECKING:
    from tests.conformance.conftest import Runner
    from tests.conformance.runs import Client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(700)]

EVERY = [pytest.param(client, name, id=f"{client.name}-{name}") for client in CLIENTS for name in client.checks()]


@pytest.mark.parametrize(("client", "name"), EVERY)
def test_client(run_of: Runner, client: Client, name: str) -> None:
    run = run_of(client)
    if not run.installed:
        pytest.skip(f"{client.name} cannot be run here: {run.broken}")
    result = run.results.get(name)
    if result is None:
        pytest.fail(f"the check was not run; {run.broken}", pytrace=False)
    if result["outcome"] == "skipped":
        pytest.skip(result["detail"])
    if result["outcome"] != "passed":
        pytest.fail(result["detail"], pytrace=False)
