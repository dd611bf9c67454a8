"""`--base-url`, `--api-key` and `--model` point the suite at a deployment; else it starts the service itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance import targets
from tests.conformance.runs import Run, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conformance.fuzzing import Trial
    from tests.conformance.runs import Client

RUNS = pytest.StashKey[dict[tuple[str, str], Run]]()
TRIALS = pytest.StashKey[list[tuple[str, "Trial"]]]()
FORMS = {"standalone": targets.standalone, "emulator": targets.emulator}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--base-url", help="check this deployment (without /v1) instead of a service started here")
    group.addoption("--api-key", default=targets.NO_KEY, help="its key")
    group.addoption("--model", help="the model to ask for; the first that it lists unless given")
    group.addoption("--embedding-model", help="its model for embeddings, if it has one")
    group.addoption("--promises", default="", help=f"what else it has, of {', '.join(targets.FEATURES)}; with commas")
    group.addoption("--report", type=Path, help="write the checks passed per client to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RUNS] = {}
    config.stash[TRIALS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        elsewhere = metafunc.config.getoption("base_url", default=None)
        forms = ["deployment"] if elsewhere else [*FORMS]
        slow = [pytest.param(form, marks=[] if form in ("deployment", "standalone") else pytest.mark.slow)
                for form in forms]  # fmt: skip
        metafunc.parametrize("target", slow, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is not asked of a target is left out, not skipped: there would be nothing to do about it."""
    left_out = [item for item in items if _is_left_out(getattr(item, "callspec", None))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_left_out(getattr(item, "callspec", None))]


def _is_left_out(call: Any) -> bool:
    client: Client | None = call.params.get("client") if call is not None else None
    return client is not None and call.params.get("target") == "emulator" and not client.behind_the_bridge


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[targets.Target]:
    config = request.config
    if request.param == "deployment":
        yield targets.deployment(
            config.getoption("base_url"), config.getoption("api_key"), model=config.getoption("model"),
            embedding_model=config.getoption("embedding_model"), promises=config.getoption("promises"),
        )  # fmt: skip
    else:
        with FORMS[request.param]() as started:
            yield started


Tried = "Callable[[targets.Target, Trial], None]"


@pytest.fixture
def tried(request: pytest.FixtureRequest) -> Callable[[targets.Target, Trial], None]:
    """`tried(target, trial)` has the trial told at the end."""
    trials = request.config.stash[TRIALS]
    return lambda target, trial: trials.append((target.name, trial))


@pytest.fixture
def run_of(request: pytest.FixtureRequest, target: targets.Target) -> Runner:
    return Runner(request, target)


class Runner:
    """Runs a client once for each target, with all of the checks that this session selected."""

    def __init__(self, request: pytest.FixtureRequest, target: targets.Target) -> None:
        self._request = request
        self._target = target

    def __call__(self, client: Client) -> Run:
        runs = self._request.config.stash[RUNS]
        key = (client.name, self._target.name)
        if key not in runs:
            params = [item.callspec.params for item in self._request.session.items if hasattr(item, "callspec")]
            names = {told["name"] for told in params if told.get("client") is client}
            runs[key] = run(client, self._target, sorted(names))
        return runs[key]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    runs = config.stash[RUNS].values()
    trials = config.stash[TRIALS]
    if not runs and not trials:
        return
    told = [_summary(one) for one in runs]
    terminalreporter.section("conformance: checks per client")
    for line in told:
        counts = f"{line['passed']} passed, {line['failed']} failed, {line['skipped']} skipped"
        name = f"{line['client']} {line['version']}"
        terminalreporter.line(f"{name:34} {line['target']:12} {counts}{line['broken'] and '; ' + line['broken']}")
    for name, trial in trials:
        terminalreporter.line(f"{'schemathesis ' + trial.version:34} {name:12} {trial.summary()}")
    if report := config.getoption("report"):
        report.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def _summary(one: Run) -> dict[str, str | int]:
    outcomes = [result["outcome"] for result in one.results.values()]
    counts = {kind: outcomes.count(kind) for kind in ("passed", "failed", "skipped")}
    broken = one.broken.splitlines()[-1] if one.broken else ""
    return {"client": one.client.name, "version": one.version, "target": one.target, **counts, "broken": broken}
