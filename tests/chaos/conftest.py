"""S3 and DynamoDB behind a proxy that lets calls fail: moto's, and dynalite's DynamoDB beside moto's S3."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from infra import blueprint
from infra.aws import Clients
from tests.aws_kit import StateOfTest
from tests.chaos.dynalite import dynalite
from tests.chaos.proxy import FaultProxy
from tests.chaos.retries import at_once
from tests.conformance.environments import NotOnThisMachine
from tests.web.doubles import HandClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emulator.aws import Aws

EMULATORS = ["moto", "dynalite"]


@dataclass(frozen=True)
class Faulty:
    """A table and a bucket behind a proxy. `state.clients` call through it; `state.admin` do too."""

    proxy: FaultProxy
    state: StateOfTest


@pytest.fixture(autouse=True)
def _tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once(monkeypatch.setattr)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(scope="session")
def _moto_proxy(aws_server: Aws) -> Iterator[FaultProxy]:
    with FaultProxy(s3=aws_server.endpoint_url, dynamodb=aws_server.endpoint_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def _dynalite_proxy(aws_server: Aws) -> Iterator[FaultProxy]:
    try:
        with (
            dynalite() as address,
            FaultProxy(s3=aws_server.endpoint_url, dynamodb=address, transacts=False) as proxy,
        ):
            yield proxy
    except NotOnThisMachine as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def _states() -> Iterator[Callable[[FaultProxy], StateOfTest]]:
    """One table and one bucket for each proxy, made when first asked for."""
    made: dict[str, StateOfTest] = {}

    def of(proxy: FaultProxy) -> StateOfTest:
        if proxy.url not in made:
            made[proxy.url] = _made_at(proxy.url)
        return made[proxy.url]

    yield of
    for state in made.values():
        state.clients.close()
        state.admin.close()


def clients_at(url: str) -> Clients:
    credentials = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
    return Clients(endpoint_url=url, region_name="us-east-1", **credentials)


def _made_at(url: str) -> StateOfTest:
    """As the blueprint says, but for time to live and recovery, which dynalite does not have."""
    state = StateOfTest(clients_at(url), clients_at(url), f"t-{secrets.token_hex(6)}")
    wanted = blueprint.table(state.name)
    parts = ("BillingMode", "AttributeDefinitions", "KeySchema", "LocalSecondaryIndexes", "GlobalSecondaryIndexes")
    dynamodb = state.admin.client("dynamodb")
    with contextlib.suppress(dynamodb.exceptions.ResourceInUseException):  # tried again: moto takes its time to load
        dynamodb.create_table(TableName=state.name, **{part: wanted[part] for part in parts})
    dynamodb.get_waiter("table_exists").wait(TableName=state.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    state.admin.client("s3").create_bucket(Bucket=state.name)
    state.record()
    return state


@pytest.fixture(params=EMULATORS)
def faulty(request: pytest.FixtureRequest, _states: Callable[[FaultProxy], StateOfTest]) -> Iterator[Faulty]:
    """Empty, and without a fault."""
    with emptied(request.getfixturevalue(f"_{request.param}_proxy"), _states) as faulty:
        yield faulty


@pytest.fixture
def on_moto(_moto_proxy: FaultProxy, _states: Callable[[FaultProxy], StateOfTest]) -> Iterator[Faulty]:
    with emptied(_moto_proxy, _states) as faulty:
        yield faulty


@pytest.fixture
def on_dynalite(_dynalite_proxy: FaultProxy, _states: Callable[[FaultProxy], StateOfTest]) -> Iterator[Faulty]:
    with emptied(_dynalite_proxy, _states) as faulty:
        yield faulty


@contextlib.contextmanager
def emptied(proxy: FaultProxy, states: Callable[[FaultProxy], StateOfTest]) -> Iterator[Faulty]:
    faulty = Faulty(proxy, states(proxy))
    faulty.state.record()
    faulty.state.empty()  # what was still under way when the last test ended may have come since
    proxy.clear()
    yield faulty
    proxy.clear()
