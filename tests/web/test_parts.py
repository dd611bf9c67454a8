"""The application's parts end in their order, whatever becomes of one of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.web.doubles import HandClock
from web.parts import Parts


class Noted:
    """A part that notes its end. `broken`: it cannot end."""

    def __init__(self, name: str, ends: list[str], *, broken: bool = False) -> None:
        self._name = name
        self._ends = ends
        self._broken = broken

    def begin(self, *_: object) -> None:
        return

    async def close(self) -> None:
        self._ends.append(self._name)
        if self._broken:
            raise RuntimeError(f"{self._name} cannot end")


ORDER = (
    "batches", "conversations", "limiter", "known", "meter", "turns", "relay", "exchanges", "states", "published",
)  # fmt: skip


def parts(ends: list[str], *, broken: str) -> Parts:
    services: Any = SimpleNamespace(tracing=None, control=None, clock=HandClock())
    noted: dict[str, Any] = {name: Noted(name, ends, broken=name == broken) for name in ORDER}
    nothing = cast("Any", None)
    return Parts(
        services=services, uptime=cast("Any", Noted("uptime", ends)), metrics=None, draining=nothing, **noted
    )  # fmt: skip


@pytest.mark.parametrize("broken", ["batches", "meter"])
async def test_one_that_cannot_end_keeps_no_other_from_it_and_is_told(broken: str) -> None:
    ends: list[str] = []
    with pytest.raises(RuntimeError, match=f"{broken} cannot end"):
        async with parts(ends, broken=broken).at_work():
            assert ends == []
    assert ends == list(ORDER)
