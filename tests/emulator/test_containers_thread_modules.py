"""A container that has modules of its own imports those, whatever the process has imported by the same names."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

import pytest

from emulator.clock import RealClock
from emulator.containers.thread import modules
from emulator.containers.thread.identity import Identity, being
from emulator.containers.thread.patching import Patches

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = "stock_of_two_shops"
WAYS = {
    "a module of it": f"import {PACKAGE}.inner as inner",
    "the package": f"import {PACKAGE}\ninner = {PACKAGE}",
    "a name in it": f"from {PACKAGE} import inner",
    "beside it, relatively": f"from {PACKAGE}.beside import inner",
}


def write(folder: Path) -> Path:
    package = folder / PACKAGE
    package.mkdir(parents=True)
    for name, source in {"__init__": "", "inner": "", "beside": "from . import inner"}.items():
        (package / f"{name}.py").write_text(f"PLACE = {folder.name!r}\n{source}\n")
    return folder


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    """One whose own the package is, in a process that has imported another of that name, but not all of it."""
    monkeypatch.syspath_prepend(str(write(tmp_path / "process")))
    exec(WAYS["a name in it"], {})
    patches = Patches()
    modules.install(patches)
    identity = Identity(
        "ta-1", {}, RealClock(), io.StringIO(), io.StringIO(), descriptor=lambda _: 2, on_signal=lambda _: None
    )
    own = [str(write(tmp_path / "container"))]
    identity.own[modules.OWN] = modules.OwnModules(frozenset({PACKAGE}), own, modules.process_modules())
    yield identity
    patches.undo()
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


@pytest.mark.parametrize("way", WAYS)
def test_it_finds_its_own_and_the_process_its_own(container: Identity, way: str) -> None:
    assert place_by(way, container) == "container"
    assert place_by(way, None) == "process"
    assert sys.modules[PACKAGE].PLACE == "process"


def place_by(way: str, identity: Identity | None) -> Any:
    names: dict[str, Any] = {}
    with being(identity):
        exec(WAYS[way], names)
    return names["inner"].PLACE
