"""`--target modal` points these tests at the real Modal account of this machine; else they start an emulator."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import modal
import pytest
from packaging.version import Version

from emulator.emulator import Emulator
from tests.parity import kit
from tests.parity.threads import NOT_ON_THREADS

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity")
    group.addoption(
        "--target",
        choices=("emulator", "modal"),
        default="emulator",
        help="what the parity tests run against (modal: the account of this machine, which costs money)",
    )
    group.addoption(
        "--containers",
        choices=("auto", "zygote", "process", "thread"),
        default="auto",
        help="what containers the parity tests' emulator has",
    )


def chosen(config: pytest.Config) -> str:
    """Without these tests' folder on the command line pytest does not know the option."""
    return str(config.getoption("target", default="emulator"))


def not_on_threads(item: pytest.Item) -> str | None:
    """Why a test cannot pass where containers are threads, if it cannot."""
    return NOT_ON_THREADS.get(f"{item.path.name}::{item.originalname}") if isinstance(item, pytest.Function) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    mark = item.get_closest_marker("emulator_only")
    if mark is not None and chosen(item.config) != "emulator":
        pytest.skip(f"only on the emulator: {mark.args[0]}")
    if item.config.getoption("containers", default="auto") == "thread" and (why := not_on_threads(item)):
        pytest.skip(f"not on threads: {why}")
    mark = item.get_closest_marker("since")
    if mark is not None and Version(version("modal")) < Version(mark.args[0]):
        pytest.skip(f"only with modal {mark.args[0]} or newer")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Iterator[kit.Target]:
    if chosen(request.config) == "emulator":
        with Emulator(containers=request.config.getoption("containers")) as emulator:
            target = kit.for_emulator(emulator)
            yield target
            target.client.close()
        return
    target = kit.for_modal()
    try:
        yield target
    finally:
        target.stop_apps()
        target.server.close()


@pytest.fixture(scope="session")
def sandbox_app(target: kit.Target) -> modal.App:
    """An App for Sandboxes, which the client makes by asking for it."""
    return modal.App.lookup(target.unique("sandboxes"), create_if_missing=True, client=target.client)
