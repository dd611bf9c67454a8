"""Containers of images that have a Python environment of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from emulator.clock import RealClock
from emulator.containers import choose_runtime
from emulator.containers.base import ContainerSpec, ContainerStartError, OwnPython
from emulator.containers.environment import container_environment
from emulator.containers.isolation import Isolation
from emulator.containers.zygote import KEPT_WARM, Zygote, ZygoteSpawner

PYTHON = OwnPython(Path("/env/bin/python"), Path("/client"))


def spec(python: OwnPython | None = PYTHON, *, changes: Path | None = None, **environment: str) -> ContainerSpec:
    return ContainerSpec(
        task_id="ta-1",
        arguments=b"",
        control_socket=Path("/none"),
        environment=environment,
        image_id="im-1",
        python=python,
        changes=changes,
    )


def path_of(given: ContainerSpec) -> list[str]:
    made = container_environment(
        given,
        {"PATH": "/machine/bin:/usr/bin"},
        home="/root",
        temporary=None,
        control_socket="/s",
        arguments="/a",
        source_root="/root",
        private_network=False,
    )
    return made["PATH"].split(":")


def test_the_commands_of_an_image_come_before_the_machines_and_after_what_it_put_before_its_own() -> None:
    assert path_of(spec())[:2] == ["/env/bin", "/machine/bin"]
    usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert path_of(spec(PATH=f"/more:{usual}"))[:3] == ["/more", "/env/bin", "/usr/local/sbin"]


@pytest.mark.parametrize("given", [spec(), spec(None, changes=Path("/changes"))], ids=["environment", "changes"])
async def test_a_thread_refuses_what_only_a_process_can_have(given: ContainerSpec) -> None:
    runtime = choose_runtime("thread", clock=RealClock())
    try:
        with pytest.raises(ContainerStartError, match="containers='zygote'"):
            await runtime.start(given, lambda *_: None)
    finally:
        await runtime.close()


async def test_commands_of_images_are_refused_where_they_would_change_the_machines_own_files(tmp_path: Path) -> None:
    runtime = choose_runtime("process", isolation=Isolation(why="it is forbidden"))
    given = ContainerSpec(
        task_id="ta-1",
        arguments=b"",
        control_socket=Path("/none"),
        environment={},
        image_id="im-1",
        changes=tmp_path / "changes",
        bare=True,
    )
    try:
        with pytest.raises(ContainerStartError, match="it is forbidden"):
            await runtime.start(given, lambda *_: None)
    finally:
        await runtime.close()


async def test_each_environment_has_a_warm_process_and_a_few_are_kept_without_containers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[OwnPython | None] = []

    class FakeZygote:
        dead = False

        def __init__(self, python: OwnPython | None) -> None:
            self.python = python

        def fork(self, *_: object) -> None: ...

        async def close(self) -> None:
            closed.append(self.python)

    async def warm(_how: str, python: OwnPython | None = None) -> FakeZygote:
        return FakeZygote(python)

    monkeypatch.setattr(Zygote, "warm", warm)
    spawner = ZygoteSpawner()
    pythons = [OwnPython(Path(f"/env{number}/bin/python"), Path("/client")) for number in range(KEPT_WARM + 1)]
    ends: object = None
    for python in [None, *pythons]:
        await spawner.spawn(tmp_path, ends, Isolation(), python)  # type: ignore[arg-type]
    for python in [None, *pythons[1:]]:
        spawner.ended(python)
    await asyncio.sleep(0)
    assert closed == []  # the first is in use, and the others are as many as may be kept
    spawner.ended(pythons[0])
    await spawner.close()
    assert closed[0] == pythons[0]
    assert len(closed) == len(pythons) + 1
