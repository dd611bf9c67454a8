"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emulator.images.cache import FOLDER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.aws import Aws
    from emulator.containers import Kind
    from tests.aws_kit import StateOfTest

# The project is not installed, so its entry point is not there: by name. `pytester` is pytest's own, for its plugins.
pytest_plugins = ["emulator.pytest_plugin", "pytester"]

SLOW_SECONDS = 300
"""After which a test that is marked slow and says no other number has hung; others: pyproject.toml."""


def pytest_configure() -> None:
    with contextlib.suppress(ImportError):  # the parity tests with older clients do without
        from hypothesis import HealthCheck, settings

        # A busy machine is no counterexample.
        settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where environments of images are kept: not the developer's own folder."""
    folder = tmp_path_factory.mktemp("images")
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    yield folder
    os.environ.pop(FOLDER_VARIABLE)
    if before is not None:
        os.environ[FOLDER_VARIABLE] = before


@pytest.fixture(scope="session")
def containers(request: pytest.FixtureRequest) -> Kind:
    """Of emulators in tests that are marked `any_containers`."""
    kind: Kind = request.config.getoption("--emulator-containers") or "thread"
    return kind


@pytest.fixture
def temporary() -> Iterator[Path]:
    """An emulator's `TMPDIR`: not pytest's own, whose path is too long for the sockets in it."""
    with tempfile.TemporaryDirectory(prefix="tmp-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[Aws]:
    """S3 and DynamoDB, for every test of this process that wants them without an emulator."""
    from emulator.aws import Aws  # imports a second's worth: not for everybody

    with Aws() as aws:
        yield aws


@pytest.fixture(scope="session")
def _aws_state(aws_server: Aws) -> Iterator[StateOfTest]:
    from infra import blueprint
    from tests.aws_kit import forbidden, state_of

    state = state_of(aws_server)
    yield state
    state.clients.close()
    state.admin.close()
    policy = blueprint.policy(table_name=state.name, bucket_name=state.name)
    assert not forbidden(policy, state.needed), "the service calls what its policy does not allow"


@pytest.fixture
def aws_state(_aws_state: StateOfTest) -> StateOfTest:
    """An empty table and an empty bucket, as the service's set-up makes them."""
    _aws_state.record()
    _aws_state.empty()  # what was still under way when the last test ended may have come since
    return _aws_state
