"""The engines' suite: collected by `-m engines` alone (`make test-sglang`), once for each engine.

With `-n 2 --dist loadscope` one engine's tests run beside the other's, and each engine is still started once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.conformance.environments import NotOnThisMachine
from tests.marked_folders import only_by_mark
from tests.sglang.service import KINDS, Service, interpreter, running
from tests.web.conftest import Served

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
MARK = "engines"
SECONDS = 900
"""Of one test and what is started for it."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    only_by_mark(config, items, folder=HERE, mark=MARK, seconds=SECONDS)


class ByEngine(LoadScopeScheduling):
    """What goes to one worker, whole: an engine's tests, or those that ask for no engine."""

    def _split_scope(self, nodeid: str) -> str:
        return next((kind for kind in KINDS if f"[{kind}" in nodeid), "none")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return ByEngine(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session", params=KINDS)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One start of the service for all tests of an engine. The model for embeddings boots while the other one does."""
    try:
        interpreter(request.param)
    except NotOnThisMachine as reason:
        pytest.skip(f"SGLang cannot be run here: {reason}")
    with running(request.param, tmp_path_factory.mktemp("service") / f"{request.param}.log") as service:
        service.post("/models/vectors/load")
        yield service


@pytest.fixture(scope="session")
def served(service: Service) -> Served:
    """The same, as the tests of answers know it: its model has booted."""
    service.loaded("demo")
    return Served(url=service.url, port=service.port)
