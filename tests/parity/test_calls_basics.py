"""The plainest of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.parity.kit import Target


@pytest.mark.row("Calls", ".remote")
def test_remote_returns_what_the_function_returns(target: Target) -> None:
    assert target.deploy("basics.py").function("square").remote(12) == 144
