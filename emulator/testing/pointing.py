"""This process's `modal` and boto3, pointed at an emulator and put back.

Environment variables and the client's memory belong to the whole process, so at most one emulator has them at a time:
the last that was pointed at and is still there.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from emulator.containers.compat.client import ClientMemory

if TYPE_CHECKING:
    from collections.abc import Mapping

OWNED = ("MODAL_", "AWS_")
"""Variables that begin so are the emulator's while it is pointed at: none of the developer's is seen."""


class Point:
    """One emulator as this process's server."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._memory = ClientMemory()
        self._outside: dict[str, str] = {}
        self._session: object = None
        """boto3's default session, which holds credentials: on the other side."""

    def enter(self) -> None:
        self._outside = _owned()
        _replace(self._environment)
        self._memory.enter()
        self._exchange_session()

    def leave(self) -> None:
        self._exchange_session()
        self._memory.leave()
        self._environment = _owned()  # what a wider fixture has set in here is its own
        _replace(self._outside)

    def close(self) -> None:
        self._memory.close()

    def _exchange_session(self) -> None:
        if (boto3 := sys.modules.get("boto3")) is not None:
            boto3.DEFAULT_SESSION, self._session = self._session, boto3.DEFAULT_SESSION  # type: ignore[attr-defined]
        # Imported in here or not: outside there was none.


class Pointer:
    """Who is pointed at."""

    def __init__(self) -> None:
        self._points: list[Point] = []

    def point(self, environment: Mapping[str, str]) -> Point:
        """Point at another, until it is `removed` or a third comes."""
        point = Point(environment)
        if self._points:
            self._points[-1].leave()
        self._points.append(point)
        point.enter()
        return point

    def remove(self, point: Point) -> None:
        """Forget one; if it was in force, the one before it is again."""
        in_force = self._points[-1]
        if point is not in_force:
            in_force.leave()
            point.enter()
        point.close()
        point.leave()
        self._points.remove(point)
        if self._points:
            self._points[-1].enter()


def _owned() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(OWNED)}


def _replace(variables: Mapping[str, str]) -> None:
    for name in _owned():
        del os.environ[name]
    os.environ.update(variables)
