"""Commands that are run in a container that is there, of every kind: their streams, their ends, and whose they are."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from emulator.containers import choose_runtime
from emulator.containers.base import Command, CommandError, ContainerStartError
from emulator.containers.isolation import Isolation
from tests.emulator.containers_kit import WITHIN, Output, machine, spec_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from emulator.containers.base import Container, Running
    from emulator.containers.runtime import SupervisedRuntime

pytestmark = pytest.mark.asyncio(loop_scope="module")

KINDS = ("zygote", "zygote without namespaces", pytest.param("process", marks=pytest.mark.slow))


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=KINDS)
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[SupervisedRuntime]:
    options: dict[str, Any] = {"isolation": Isolation(why="the test says so")} if "without" in request.param else {}
    runtime: Any = choose_runtime(request.param.split()[0], machine=machine(), **options)
    yield runtime
    await runtime.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def bare(runtime: SupervisedRuntime, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Container]:
    """A container in which nothing runs."""
    spec = spec_of(tmp_path_factory.mktemp("bare"), "", bare=True, environment={"GREETING": "hello"})
    container = await runtime.start(spec, Output().on_output)
    yield container
    container.kill()
    await container.wait()


async def everything(descriptor: int) -> str:
    """What is written to a command's stream, until it ends."""
    os.set_blocking(descriptor, True)

    def read() -> bytes:
        data = b""
        while True:
            try:
                more = os.read(descriptor, 65536)
            except OSError:  # a terminal's end
                return data
            if not more:
                return data
            data += more

    try:
        async with asyncio.timeout(WITHIN):
            return (await asyncio.to_thread(read)).decode()
    finally:
        os.close(descriptor)


async def said(running: Running) -> str:
    os.close(running.stdin)
    if running.stderr is not None:
        os.close(running.stderr)
    return await everything(running.stdout)


async def test_a_command_runs_in_the_containers_environment_and_folder_with_its_own_on_top(bare: Container) -> None:
    running = await bare.execute(
        Command(words=["sh", "-c", "echo $GREETING $NAME; pwd"], environment={"NAME": "you"}, workdir="/")
    )
    assert await said(running) == "hello you\n/\n"
    assert (await running.wait()).code == 0


async def test_a_command_reads_its_stdin_to_the_end(bare: Container) -> None:
    running = await bare.execute(Command(words=["cat"]))
    os.write(running.stdin, b"what it is told")
    assert await said(running) == "what it is told"


async def test_a_command_that_is_not_there_or_can_not_be_run_has_a_shells_status(bare: Container) -> None:
    with pytest.raises(CommandError, match="no-such-thing: No such file") as missing:
        await bare.execute(Command(words=["no-such-thing"]))
    assert missing.value.code == 127
    with pytest.raises(CommandError, match="Permission denied") as folder:
        await bare.execute(Command(words=["/etc"]))
    assert folder.value.code == 126
    with pytest.raises(CommandError, match="null"):
        await bare.execute(Command(words=["echo", "a\0b"]))


async def test_a_command_that_is_killed_ends_by_that_signal_with_its_process_group(bare: Container) -> None:
    running = await bare.execute(Command(words=["sh", "-c", "echo up; sleep 1000 & wait"]))
    os.set_blocking(running.stdout, True)
    assert await asyncio.to_thread(os.read, running.stdout, 3) == b"up\n"
    running.kill()
    assert (await running.wait()).code == -9
    assert await said(running) == ""


async def test_a_command_may_have_a_terminal(bare: Container) -> None:
    running = await bare.execute(Command(words=["sh", "-c", "test -t 0 && test -t 2 && stty size"], terminal=(31, 97)))
    assert running.stderr is None
    assert (await everything(running.stdout)).split() == ["31", "97"]
    os.close(running.stdin)
    assert (await running.wait()).code == 0


async def test_a_bare_container_ends_with_its_main_command_and_so_do_the_others(
    runtime: SupervisedRuntime, tmp_path: Path
) -> None:
    container = await runtime.start(spec_of(tmp_path, "", task_id="ta-2", bare=True), Output().on_output)
    other = await container.execute(Command(words=["sleep", "1000"]))
    main = await container.execute(Command(words=["sh", "-c", "exit 3"], main=True))
    assert (await main.wait()).code == 3
    assert (await container.wait()).code == 3
    assert (await other.wait()).code == -9
    with pytest.raises(ContainerStartError, match="has ended"):
        await container.execute(Command(words=["true"]))
    for running in (main, other):
        assert await said(running) == ""


async def test_a_command_runs_beside_the_main_process(runtime: SupervisedRuntime, tmp_path: Path) -> None:
    code = "import time\ndef go():\n    open('mark', 'w').write('here')\n    print('up')\n    time.sleep(1000)\n"
    made: Any = choose_runtime("process", entry="user_code:go", machine=machine(), isolation=await runtime.isolation())
    output = Output()
    container = await made.start(spec_of(tmp_path, code, task_id="ta-3"), output.on_output)
    try:
        await output.line("up")
        assert await said(await container.execute(Command(words=["cat", "mark"]))) == "here"
    finally:
        await made.close()
