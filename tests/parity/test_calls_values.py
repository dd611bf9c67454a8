"""What goes into a call and comes out of it: large, and what can not be pickled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from modal.exception import ExecutionError, SerializationError

from tests.parity.apps import calls

if TYPE_CHECKING:
    from tests.parity.kit import Target

MB = 1 << 20


@pytest.mark.row("Calls", "inputs and outputs of 100 MB")
def test_what_is_too_large_for_a_message_arrives_whole(target: Target) -> None:
    echo = target.deploy("calls.py").function("echo")
    data = bytes(range(256)) * (3 * MB // 256)
    assert echo.remote(data) == data
    assert echo.spawn(b"x", more=100_000).get() == b"x" + bytes(100_000)
    assert [len(result) for result in echo.map([b"", b"y"], kwargs={"more": 3 * MB})] == [3 * MB, 3 * MB + 1]


HUGE = """
import modal
data = bytes(range(256)) * (100 * 4096)
assert len(data) == 100 << 20
echo = modal.Function.from_name({app!r}, "echo")
result = echo.remote(data, more=1)
assert result == data + bytes(1), len(result)
"""


@pytest.mark.slow
@pytest.mark.row("Calls", "inputs and outputs of 100 MB")
@pytest.mark.emulator_only("it looks at the emulator's own memory, which is that of the tests' process")
def test_the_emulator_does_not_hold_100_mb_in_memory(target: Target) -> None:
    app = target.deploy("calls.py")
    assert app.function("echo").remote(b"warm") == b"warm"
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = memory("VmRSS")
    subprocess.run([sys.executable, "-c", HUGE.format(app=app.name)], env=dict(target.environment), check=True)
    assert memory("VmHWM") - before < 40 * MB
    assert target.emulator.environment  # it was this process's emulator all along


def memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


@pytest.mark.row("Calls", "unpicklable results")
def test_a_result_that_can_not_be_pickled_is_the_callers_error(target: Target) -> None:
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        target.deploy("calls.py").function("lock").remote()


@pytest.mark.row("Calls", "unpicklable exceptions")
def test_an_exception_that_can_not_be_pickled_is_told_in_words(target: Target) -> None:
    with pytest.raises(SerializationError, match="Failed to serialize exception it holds a lock of type"):
        target.deploy("calls.py").function("fail").remote("unpicklable")


@pytest.mark.row("Calls", "what only the container can import")
def test_an_exception_whose_class_is_not_here_is_told_with_its_remote_traceback(target: Target) -> None:
    with pytest.raises(ExecutionError, match="your local environment does not have the remote exception") as told:
        target.deploy("calls.py").function("fail").remote("module")
    assert "from a module of the container" in str(told.value)


@pytest.mark.row("Calls", "what only the container can import")
def test_a_result_whose_class_is_not_here_is_told_to_be_so(target: Target) -> None:
    with pytest.raises(Exception, match="only_there"):
        target.deploy("calls.py").function("fail").remote("result")


@pytest.mark.row("Calls", "exceptions")
def test_an_exception_of_the_apps_own_class_keeps_it_where_the_class_can_be_imported(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "calls", calls)
    with pytest.raises(calls.OwnError) as told:
        target.deploy("calls.py").function("fail").remote("own")
    assert told.value.number == 7
