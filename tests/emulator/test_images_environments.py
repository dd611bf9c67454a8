"""Environments on disk: built once, whole or not at all, and cloned rather than built again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from emulator.images.cache import FOLDER_VARIABLE, EnvironmentCache
from emulator.images.commands import Install
from emulator.images.environments import BuildFailed, Environments
from emulator.images.installers import Tools, find_tools
from emulator.images.pythons import own
from emulator.state import ImageRecord
from emulator.storage.content import ContentStore
from emulator.storage.plain import dumped, loaded
from emulator.storage.shapes import StateShapes
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from pathlib import Path

WITHIN = 60


class Workshop:
    """A cache of environments, and installs of tiny wheels."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = ContentStore(folder / "content")
        self.said: list[str] = []

    def environments(self, *, uv: bool = True) -> Environments:
        tools = find_tools() if uv else Tools(None, find_tools().pip)
        return Environments(EnvironmentCache(self.folder / "cache"), self.content, tools, self.folder / "scratch")

    def install(self, name: str, version: str = "1.0", *, command: str = "") -> Install:
        data = make_wheel(self.folder / "wheels", name, version, command=command).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        self.content.add(sha256, data)
        path = f"/w/{name.replace('-', '_')}-{version}-py3-none-any.whl"
        return Install("pip", (path, "--no-index"), f"pip install {path}", ((path, sha256),))

    async def need(self, *installs: Install, force: bool = False, uv: bool = True) -> Path:
        environments = self.environments(uv=uv)
        try:
            async with asyncio.timeout(WITHIN):
                return await environments.need(own(), installs, self.said.append, force=force)
        finally:
            await environments.close()

    @property
    def trees(self) -> list[Path]:
        return list((self.folder / "cache/trees").glob("*"))


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def output(environment: Path, *words: str) -> str:
    done = subprocess.run([environment / "bin" / words[0], *words[1:]], capture_output=True, text=True, check=True)
    return done.stdout.strip()


async def test_an_environment_is_built_once_and_found_by_the_next_emulator(workshop: Workshop) -> None:
    one = workshop.install("tiny-one", command="tiny")
    first = await workshop.need(one)
    said = len(workshop.said)
    assert output(first, "tiny") == "1.0"
    assert await workshop.need(one) == first
    assert len(workshop.said) == said


@pytest.mark.slow
async def test_a_layer_on_top_shares_the_files_of_the_one_below_and_changes_nothing_there(workshop: Workshop) -> None:
    one, other, newer = (
        workshop.install("tiny-one", command="tiny"),
        workshop.install("tiny-two"),
        workshop.install("tiny-one", "2.0.1", command="tiny"),
    )
    below = await workshop.need(one)
    above = await workshop.need(one, other)
    replaced = await workshop.need(one, newer)
    module = "lib/python{}.{}/site-packages/tiny_one.py".format(*sys.version_info)
    assert (below / module).samefile(above / module)
    assert [output(environment, "tiny") for environment in (below, above, replaced)] == ["1.0", "1.0", "2.0.1"]
    assert str(above) in (above / "bin/tiny").read_text()
    assert output(above, "python", "-c", "import tiny_one, tiny_two; print(tiny_two.VERSION)") == "1.0"


async def test_those_who_want_the_same_at_once_get_one_build(workshop: Workshop) -> None:
    one = workshop.install("tiny-one")
    here, elsewhere = workshop.environments(), workshop.environments()
    said: list[list[str]] = [[], [], []]
    try:
        async with asyncio.timeout(WITHIN):
            found = await asyncio.gather(
                here.need(own(), [one], said[0].append),
                here.need(own(), [one], said[1].append),
                elsewhere.need(own(), [one], said[2].append),
            )
    finally:
        await here.close()
        await elsewhere.close()
    assert len(set(found)) == 1
    assert len(workshop.trees) == 1
    assert "".join(said[0]) == "".join(said[1]) != ""


@pytest.mark.slow
async def test_a_build_that_fails_says_why_and_leaves_nothing(workshop: Workshop) -> None:
    absent = Install("pip", ("no-such-package", "--no-index"), "pip install no-such-package --no-index")
    with pytest.raises(BuildFailed):
        await workshop.need(absent)
    assert "no-such-package" in "".join(workshop.said)
    assert workshop.trees == []


@pytest.mark.slow
async def test_force_builds_again_and_the_old_one_is_swept_once_nobody_holds_it(workshop: Workshop) -> None:
    one = workshop.install("tiny-one")
    first = await workshop.need(one)
    second = await workshop.need(one, force=True)
    assert first != second
    cache = EnvironmentCache(workshop.folder / "cache")
    cache.sweep()
    assert [tree.name for tree in workshop.trees] == [second.parent.name]


@pytest.mark.slow
async def test_pip_alone_does_as_well(workshop: Workshop) -> None:
    environment = await workshop.need(workshop.install("tiny-one", command="tiny"), uv=False)
    assert output(environment, "tiny") == "1.0"


def test_what_a_killed_build_leaves_is_swept_and_never_used(workshop: Workshop) -> None:
    script = (
        "import sys; from pathlib import Path; from emulator.images.cache import EnvironmentCache; "
        "tree = EnvironmentCache(Path(sys.argv[1])).new_tree('k' * 64); tree.mkdir(); print('there', flush=True); "
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(workshop.folder / "cache")]
    cache = EnvironmentCache(workshop.folder / "cache")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout is not None
        assert building.stdout.readline() == "there\n"
        cache.sweep()
        assert len(workshop.trees) == 1
        os.kill(building.pid, signal.SIGKILL)
    assert cache.find("k" * 64) is None
    cache.sweep()
    assert workshop.trees == []


@pytest.mark.slow
async def test_what_is_in_use_is_not_pruned(workshop: Workshop) -> None:
    one, two = workshop.install("tiny-one"), workshop.install("tiny-two")
    await workshop.need(one)
    user = workshop.environments()
    held = await user.need(own(), [two], workshop.said.append)
    cache = EnvironmentCache(workshop.folder / "cache")
    assert cache.size() > 0
    assert cache.prune() == (1, 1)
    assert [tree / "python" for tree in workshop.trees] == [held]
    await user.close()
    assert cache.prune() == (1, 0)
    assert workshop.trees == []


@pytest.mark.slow
async def test_the_command_lists_and_prunes(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    await workshop.need(workshop.install("tiny-one"), workshop.install("tiny-two"))
    monkeypatch.setenv(FOLDER_VARIABLE, str(workshop.folder / "cache"))

    def said(*words: str) -> str:
        command = [sys.executable, "-m", "emulator", "images", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    listed = said("list")
    assert "pip install /w/tiny_two-1.0-py3-none-any.whl (and 1 below)" in listed
    assert " MB" in listed.splitlines()[-1]
    assert "2 removed" in said("prune")
    assert len(said("list").splitlines()) == 1


def test_what_an_image_installs_can_be_kept(tmp_path: Path) -> None:
    install = Install("pip", ("a", "-f", "/w"), "pip install a -f /w", (("/w/a.whl", "0" * 64),), (("PIP_PRE", "1"),))
    image = ImageRecord("im-1", {"A": "1"}, "/root", (("/a", "0" * 64, 0o644),), "3.12", (install,))
    shapes = StateShapes(tmp_path)
    assert loaded(dumped(image, shapes), shapes) == image
