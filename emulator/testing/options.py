"""What a test may say of its emulator: `@pytest.mark.emulator(…)`, the command line, the configuration file."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, get_args

from emulator.clock import RealClock
from emulator.virtual_clock import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MARK = "emulator"
_OURS = frozenset({"log"})
"""Options of `Emulator` that the fixture sets itself."""


class WrongOption(Exception):
    """A test asks for an emulator that cannot be: the message names the option."""


def options(
    marks: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]], *, containers: str, virtual: bool = False
) -> dict[str, Any]:
    """The options of `Emulator` for a test. `marks`: arguments of its marks, the closest first.

    `containers` is the kind where no mark names one; `virtual`: the test turns its clock. Raises `WrongOption`.
    """
    chosen: dict[str, Any] = {"containers": containers}
    for positional, named in reversed(list(marks)):
        if positional:
            raise WrongOption(f"@pytest.mark.{MARK} takes named options only, not {positional[0]!r}")
        chosen.update(named)
    known = possible()
    for name in chosen:
        if name not in known:
            raise WrongOption(f"@pytest.mark.{MARK} has no option {name!r}: it has {', '.join(known)}")
    kinds = container_kinds()
    if chosen["containers"] not in kinds:
        raise WrongOption(f"containers={chosen['containers']!r} is unknown: use {', '.join(map(repr, kinds))}")
    clock = _clock(chosen.pop("clock", "virtual" if virtual else "real"))
    if virtual and not isinstance(clock, VirtualClock):
        raise WrongOption("a test that uses the fixture `clock` has virtual time: its mark says otherwise")
    return {**chosen, "clock": clock}


def _clock(asked: Any) -> Any:
    if asked not in ("virtual", "real"):
        return asked
    return VirtualClock() if asked == "virtual" else RealClock()


def possible() -> list[str]:
    """Options that a mark can have."""
    from emulator.emulator import Emulator

    return sorted(inspect.signature(Emulator).parameters.keys() - _OURS)


def container_kinds() -> tuple[str, ...]:
    """Kinds of containers there are."""
    from emulator.containers import Kind

    return get_args(Kind)
