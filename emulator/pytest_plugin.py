"""The pytest plugin: fixtures that run a test's Modal app on an emulator of its own. See docs/testing.md.

Loaded with every pytest of an environment that has the emulator installed: nothing but pytest is imported here before a
test asks for a fixture.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from emulator.emulator import Emulator
    from emulator.faults.faults import Faults
    from emulator.testing.apps import Deploy
    from emulator.testing.aws import AwsAccess
    from emulator.testing.journal import Journal
    from emulator.testing.pointing import Pointer
    from emulator.virtual_clock import VirtualClock

MARK = "emulator"
DEFAULT_CONTAINERS = "thread"
SECTION = "emulator and its containers"


class Running:
    """The emulators that run now, for reports and for the process's client."""

    def __init__(self) -> None:
        self.journals: dict[Emulator, Journal] = {}
        self.deploys: dict[Emulator, Deploy] = {}
        self._positions: dict[Journal, int] = {}
        self._pointer: Pointer | None = None

    @property
    def pointer(self) -> Pointer:
        from emulator.testing.pointing import Pointer

        if self._pointer is None:
            self._pointer = Pointer()
        return self._pointer

    def test_begins(self) -> None:
        self._positions = {journal: journal.position for journal in self.journals.values()}

    def said(self) -> str:
        """What the emulators and their containers have written since the test began."""
        return "".join(journal.text(after=self._positions.get(journal, 0)) for journal in self.journals.values())


RUNNING = pytest.StashKey[Running]()


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "kind of containers of the `emulator` fixtures where no mark names one"
    parser.getgroup("emulator").addoption("--emulator-containers", metavar="KIND", help=told)
    parser.addini("emulator_containers", help=told, default="")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(containers='zygote', …): options of the test's `emulator`")
    config.stash[RUNNING] = Running()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _refresh()
    item.config.stash[RUNNING].test_begins()
    if any(mark.name == MARK for mark in item.own_markers) and "emulator" not in getattr(item, "fixturenames", ()):
        pytest.fail(
            f"@pytest.mark.{MARK} is for tests that use the fixture `emulator`: this one does not", pytrace=False
        )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    _refresh()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    _refresh()


def _refresh() -> None:
    """pytest has just begun to capture, after which containers that are threads write to the test's own output."""
    if (installation := sys.modules.get("emulator.containers.thread.installation")) is not None:
        installation.INSTALLATION.refresh()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and (said := item.config.stash[RUNNING].said()):
        report.sections.append((SECTION, said))
    return report


@contextmanager
def _running(request: pytest.FixtureRequest, *, virtual: bool = False) -> Iterator[Emulator]:
    """An emulator for a fixture, to which this process's client is pointed."""
    from emulator.emulator import Emulator
    from emulator.testing.apps import Deploy, Modules
    from emulator.testing.journal import Journal
    from emulator.testing.options import WrongOption, options

    running = request.config.stash[RUNNING]
    marks = [(mark.args, mark.kwargs) for mark in request.node.iter_markers(MARK)]
    try:
        chosen = options(marks, containers=_default_containers(request.config), virtual=virtual)
    except WrongOption as error:
        pytest.fail(str(error), pytrace=False)
    journal, modules = Journal(), Modules()
    emulator = Emulator(**chosen, log=journal)
    running.journals[emulator] = journal
    running.deploys[emulator] = Deploy(emulator, journal, modules)
    try:
        with emulator:
            point = running.pointer.point(emulator.environment)
            try:
                yield emulator
            finally:
                running.pointer.remove(point)
                modules.restore()
    finally:
        del running.journals[emulator], running.deploys[emulator]


def _default_containers(config: pytest.Config) -> str:
    asked = config.getoption("--emulator-containers") or config.getini("emulator_containers")
    return str(asked or DEFAULT_CONTAINERS)


@pytest.fixture
def emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """A local Modal of the test's own, which the `modal` client and boto3 in this process talk to."""
    with _running(request, virtual="emulator_in_virtual_time" in request.fixturenames) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def module_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """One for all tests of the module that use it."""
    with _running(request) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def session_emulator(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """One for all tests that use it."""
    with _running(request) as emulator:
        yield emulator


@pytest.fixture
def deploy(emulator: Emulator, request: pytest.FixtureRequest) -> Deploy:
    """`deploy(app)` -> the running app: takes a `modal.App`, a module, or the path of a file."""
    return request.config.stash[RUNNING].deploys[emulator]


@pytest.fixture(scope="module")
def module_deploy(module_emulator: Emulator, request: pytest.FixtureRequest) -> Deploy:
    """The same, to `module_emulator`."""
    return request.config.stash[RUNNING].deploys[module_emulator]


@pytest.fixture(scope="session")
def session_deploy(session_emulator: Emulator, request: pytest.FixtureRequest) -> Deploy:
    """The same, to `session_emulator`."""
    return request.config.stash[RUNNING].deploys[session_emulator]


@pytest.fixture
def emulator_in_virtual_time() -> None:
    """Whoever asks for this has a clock to turn: known from the names before any fixture is made."""


@pytest.fixture
def clock(emulator: Emulator, emulator_in_virtual_time: None) -> VirtualClock:  # noqa: ARG001
    """The time of the test's emulator, which is virtual for that: `clock.advance("5m")`."""
    from emulator.virtual_clock import VirtualClock

    if not isinstance(emulator.clock, VirtualClock):
        pytest.fail("the emulator was there before the fixture `clock` was asked for: name it in the test", False)
    return emulator.clock


@pytest.fixture
def aws(emulator: Emulator) -> AwsAccess:
    """S3 and DynamoDB of the test's emulator: `aws.client("s3")`, `aws.resource("dynamodb")`."""
    from emulator.testing.aws import AwsAccess

    return AwsAccess(emulator)


@pytest.fixture
def faults(emulator: Emulator) -> Faults:
    """What is to go wrong in the test's emulator: `faults.kill_at_input("price", 3)`."""
    return emulator.faults
