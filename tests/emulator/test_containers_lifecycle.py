"""A container from start to end, of every kind: what it says, how it leaves, and that nothing of it stays."""

# ruff: noqa: ASYNC110, ASYNC240 (conditions of other processes have no event, and these folders are small)
from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from emulator.containers import choose_runtime
from emulator.containers.base import ContainerStartError
from emulator.containers.isolation import Isolation
from tests.emulator.containers_kit import WITHIN, Output, arguments_of, control_plane, machine, spec_of
from tests.emulator.traces import below

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from emulator.containers.runtime import SupervisedRuntime

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

KINDS = ("zygote", "zygote without namespaces", "process")


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=KINDS)
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[SupervisedRuntime]:
    """A runtime of each kind, whose containers call `go` of their `/root/user_code.py`."""
    kind = request.param.split()[0]
    options: dict[str, Any] = {"isolation": Isolation(why="the test says so")} if "without" in request.param else {}
    runtime: Any = choose_runtime(kind, entry="user_code:go", machine=machine(), **options)
    yield runtime
    await runtime.close()


def is_gone(pid: int) -> bool:
    """Whether a process has ended (or only waits to be reaped by somebody else)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


async def until_gone(*pids: int) -> None:
    async with asyncio.timeout(WITHIN):
        while not all(is_gone(pid) for pid in pids):
            await asyncio.sleep(0.01)


def named(word: str) -> list[int]:
    """The processes of this machine that have this word among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


async def test_what_it_writes_arrives_by_stream_and_its_exit_status_is_told(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    code = "import sys\ndef go():\n    print('späße', end=''); print('oops', file=sys.stderr); return 7"
    output = Output()
    container = await runtime.start(spec_of(tmp_path, code), output.on_output)
    assert (await container.wait()).code == 7
    assert output.text == {"stdout": "späße", "stderr": "oops\n"}


async def test_an_exception_is_status_one_with_its_traceback_on_stderr(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    output = Output()
    container = await runtime.start(spec_of(tmp_path, "def go():\n    raise KeyError('what')"), output.on_output)
    assert (await container.wait()).code == 1
    assert "KeyError: 'what'" in output.text["stderr"]


async def test_a_line_is_heard_while_the_container_goes_on(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    output = Output()
    code = "import time\ndef go():\n    print('up'); time.sleep(1000)"
    container = await runtime.start(spec_of(tmp_path, code), output.on_output)
    assert await output.line("up") == ""
    container.kill()
    assert (await container.wait()).code == -signal.SIGKILL


async def test_terminate_asks_the_main_process_and_only_that(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = """
import os, signal, sys, time
def leave(*_):
    os.write(1, b"leaving"); sys.exit(5)
def go():
    signal.signal(signal.SIGTERM, leave); print("up"); time.sleep(1000)
"""
    output = Output()
    container = await runtime.start(spec_of(tmp_path, code), output.on_output)
    await output.line("up")
    container.terminate()
    assert (await container.wait()).code == 5, output.text
    assert "leaving" in output.text["stdout"]


async def test_its_pid_is_the_main_processs_on_this_machine(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    output = Output()
    code = "import time\ndef go():\n    print('up'); time.sleep(1000)"
    container = await runtime.start(spec_of(tmp_path, code), output.on_output)
    await output.line("up")
    os.kill(container.pid, signal.SIGTERM)
    assert (await container.wait()).code == -signal.SIGTERM


async def test_what_user_code_started_ends_with_it_even_in_a_session_of_its_own(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    mark = f"100{os.getpid()}"
    code = f"""
import subprocess
def go():
    subprocess.Popen(["sleep", "{mark}"])
    subprocess.Popen(["setsid", "sh", "-c", "sleep {mark} & exec sleep {mark}"], start_new_session=True)
    print("up"); input_never_comes = __import__("time").sleep(1000)
"""
    for end in ("kill", "terminate"):
        output = Output()
        container = await runtime.start(spec_of(tmp_path, code), output.on_output)
        await output.line("up")
        async with asyncio.timeout(WITHIN):
            while len(named(mark)) < 3:
                await asyncio.sleep(0.01)
        getattr(container, end)()
        await container.wait()
        assert named(mark) == []


async def test_its_folder_is_gone_when_it_is(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "def go():\n    open('mine', 'w').write('x'); import os; os.mkdir('d', 0o500)"
    container = await runtime.start(spec_of(tmp_path, code), Output().on_output)
    await container.wait()
    assert runtime._folder is not None
    assert [path.name for path in runtime._folder.path.iterdir()] == ["lock"]


async def test_the_same_task_cannot_run_twice(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "import time\ndef go():\n    time.sleep(1000)"
    container = await runtime.start(spec_of(tmp_path, code), Output().on_output)
    with pytest.raises(ContainerStartError, match="ta-1 is running already"):
        await runtime.start(spec_of(tmp_path, code), Output().on_output)
    container.kill()
    await container.wait()


async def test_a_file_that_is_not_there_to_copy_fails_the_start_by_name(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, "")
    spec.files[0].source.unlink()
    with pytest.raises(ContainerStartError, match="/root/user_code"):
        await runtime.start(spec, Output().on_output)


async def test_random_numbers_differ_between_containers(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "import random, uuid\ndef go():\n    print('drew', random.random(), uuid.uuid4())"
    drawn = set()
    for _ in range(2):
        output = Output()
        container = await runtime.start(spec_of(tmp_path, code), output.on_output)
        await container.wait()
        drawn.add(await output.line("drew"))
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("kind", "held"),
    [
        ("zygote", False),
        ("process", False),
        ("process without namespaces", False),
        ("zygote", True),
        pytest.param("zygote without namespaces", True, marks=pytest.mark.slow),
        pytest.param("process without namespaces", True, marks=pytest.mark.slow),
    ],
)
async def test_nothing_outlives_an_emulator_that_is_killed(
    kind: str, held: bool, tmp_path: Path, temporary: Path
) -> None:
    """`held`: while a process that it has forked still holds its sockets."""
    mark = f"200{os.getpid()}"
    (tmp_path / "code.py").write_text(
        f"import subprocess\ndef go():\n    subprocess.Popen(['setsid', 'sleep', '{mark}']).wait()"
    )
    emulator = f"""
import asyncio, os, time
from pathlib import Path
from emulator.containers import choose_runtime
from emulator.containers.base import ContainerSpec, MountedFile
from emulator.containers.isolation import Isolation
async def main():
    options = dict(isolation=Isolation(why="the test says so")) if "without" in "{kind}" else dict()
    runtime = choose_runtime("{kind.split()[0]}", entry="user_code:go", **options)
    files = (MountedFile("/root/user_code.py", Path("{tmp_path}/code.py")),)
    spec = ContainerSpec("ta-1", b"", Path("/nowhere"), {{}}, "im-1", files=files)
    container = await runtime.start(spec, lambda *_: None)
    if not (fork := os.fork()):
        os.closerange(0, 3)
        time.sleep(1000 if {held} else 0)
        os._exit(0)
    print(container.pid, fork, flush=True)
    await container.wait()
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", emulator, stdout=subprocess.PIPE, env={**os.environ, "TMPDIR": str(temporary)}
    )
    assert process.stdout is not None
    pid, fork = map(int, (await process.stdout.readline()).split())
    try:
        async with asyncio.timeout(WITHIN):
            while not named(mark):
                await asyncio.sleep(0.01)
        left = named(mark)
        process.kill()
        await process.wait()
        await until_gone(pid, *left)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(fork, signal.SIGKILL)
    await until_gone(fork)
    await _until_swept(temporary)


async def _until_swept(parent: Path) -> None:
    """The killed emulator's folder stays until the next emulator: which removes it."""
    from emulator.containers.folder import RunFolder

    assert list(parent.glob("modal-emulator-*"))
    folder = RunFolder(parent)
    assert list(parent.glob("modal-emulator-*")) == [folder.path]
    folder.close()
    assert list(parent.glob("modal-emulator-*")) == []


@pytest.mark.slow
async def test_a_start_that_is_called_off_leaves_no_container(tmp_path: Path) -> None:
    runtime: Any = choose_runtime("process", entry="user_code:go")
    mark = f"300{os.getpid()}"
    code = f"import subprocess\ndef go():\n    subprocess.run(['sleep', '{mark}'])"
    try:
        starting = asyncio.create_task(runtime.start(spec_of(tmp_path, code), Output().on_output))
        async with asyncio.timeout(WITHIN):
            while "ta-1" not in runtime._containers:
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            while runtime._containers:
                await asyncio.sleep(0.01)
        assert starting.cancelled()
        assert named(mark) == []
    finally:
        await runtime.close()


@pytest.mark.parametrize("how", ["", "user"])
async def test_a_warm_process_that_is_let_go_before_it_is_warm_is_gone_at_once(how: str) -> None:
    before = below(os.getpid())
    runtime: Any = choose_runtime("zygote", isolation=Isolation(how=how))
    warming = asyncio.create_task(runtime.warm())
    async with asyncio.timeout(WITHIN):
        while len(started := below(os.getpid()) - before) < (2 if how else 1):
            if warming.done():
                pytest.skip("this machine has no user namespaces")
            await asyncio.sleep(0.001)
    await runtime.close()
    await asyncio.wait([warming])
    await until_gone(*started)


async def test_threads_and_exit_functions_of_user_code_have_their_turn(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    code = """
import atexit, sys, threading
def go():
    atexit.register(print, "at exit", end="")
    threading.Thread(target=lambda: (threading.Event().wait(0.05), print("thread"))).start()
    sys.exit("last words")
"""
    output = Output()
    container = await runtime.start(spec_of(tmp_path, code), output.on_output)
    assert (await container.wait()).code == 1
    assert output.text == {"stdout": "thread\nat exit", "stderr": "last words\n"}


@pytest.mark.slow
async def test_a_warm_process_that_dies_takes_no_container_along_and_the_next_start_makes_another(
    tmp_path: Path,
) -> None:
    runtime: Any = choose_runtime("zygote", entry="user_code:go")
    code = "import time\ndef go():\n    print('up'); time.sleep(1000)"
    try:
        output = Output()
        first = await runtime.start(spec_of(tmp_path, code), output.on_output)
        await output.line("up")
        warm = (await runtime._zygotes.warm(await runtime.isolation()))._process
        warm.kill()
        await warm.wait()
        second = await runtime.start(spec_of(tmp_path, code, task_id="ta-2"), output.on_output)
        assert not is_gone(first.pid)
        assert not is_gone(second.pid)
    finally:
        await runtime.close()
    assert is_gone(first.pid)


@pytest.mark.parametrize("kind", ["zygote", "process"])
async def test_the_clients_own_runtime_runs_a_function(kind: str, tmp_path: Path) -> None:
    code = """
import modal
app = modal.App("x")
@app.function()
def double(x):
    print("doubling", x)
    return 2 * x, modal.is_local()
"""
    runtime = choose_runtime(kind)  # type: ignore[arg-type]
    output = Output()
    socket = tmp_path / "control.sock"
    try:
        async with control_plane(socket, [21, 4]) as plane, asyncio.timeout(WITHIN):
            spec = spec_of(tmp_path, code, arguments=arguments_of("double"), control_socket=socket)
            container = await runtime.start(spec, output.on_output)
            exited = await container.wait()
    finally:
        await runtime.close()
    assert plane.outputs == [(42, False), (8, False)], output.text
    assert exited.code == 0
    assert await output.line("doubling 21") == ""
    assert output.text["stderr"] == ""


async def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="'podman' is unknown"):
        choose_runtime("podman")  # type: ignore[arg-type]
