"""The contracts of the state's parts, once more, on dynalite: so that moto's habits are not taken for DynamoDB's.

A module here is the tests of another folder, by name. What they know as `aws_state` is dynalite's table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.aws_kit import StateOfTest
    from tests.chaos.conftest import Faulty

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


@pytest.fixture
def aws_state(on_dynalite: Faulty) -> StateOfTest:
    return on_dynalite.state
