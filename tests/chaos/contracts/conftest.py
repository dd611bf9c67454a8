"""The contracts of the state's parts, once more, on dynalite: so that moto's habits are not taken for DynamoDB's. And
while the first answer to each write is lost: what is tried again must not be done twice.

A module here is the tests of another folder, by name. What they know as `aws_state` is dynalite's table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web.conftest import engine, http, http_protocol, serve, stream_of, web_loop  # noqa: F401

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest
    from tests.chaos.conftest import Faulty
    from tests.chaos.faults import Call

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All of them are slow, and what keeps nothing in AWS is not tested again."""
    ours = [item for item in items if HERE in item.path.parents]
    again = [item for item in ours if "aws_state" not in item.fixturenames and _in_memory(item)]  # type: ignore[attr-defined]
    for item in ours:
        item.add_marker(pytest.mark.slow)
    if again:
        config.hook.pytest_deselected(items=again)
        items[:] = [item for item in items if item not in again]


def _in_memory(item: pytest.Item) -> bool:
    call = getattr(item, "callspec", None)
    return call is not None and "memory" in call.params.values()


UNLESS_ANSWERS_ARE_LOST = frozenset({
    "test_a_turn_costs_three_calls",  # and one more to know its own write again
    # An object that is kept no longer is the housekeeping's to remove, then:
    "test_a_large_session_lies_in_the_bucket_once",
    "test_what_is_large_lies_in_the_bucket_as_long_as_it_is_kept",
    # What a first try has deleted is not there for the second, and its caller is told so:
    "test_a_response_is_there_as_it_was_for_its_owner",
    "test_a_conversation_is_there_until_it_is_removed",
})  # fmt: skip
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems")


@pytest.fixture
def aws_state(on_dynalite: Faulty, request: pytest.FixtureRequest) -> StateOfTest:
    """Where the first answer to each write is lost, as well, unless the module is about single calls."""
    calm = getattr(request.module, "SINGLE_CALLS", False) or request.function.__name__ in UNLESS_ANSWERS_ARE_LOST
    if not calm:
        on_dynalite.proxy.plan("lost", times=None, when=FirstTry())
    return on_dynalite.state


class FirstTry:
    """Of each write; boto3 makes another."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, call: Call) -> bool:
        first = call.operation in WRITES and call.body not in self._seen
        self._seen.add(call.body)
        return first
