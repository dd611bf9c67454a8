"""A Volume as a container sees it where it has namespaces, by this machine's right or an ordinary user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.storage.views import View
from emulator.storage.volumes import VolumeFiles
from tests.emulator.test_containers_files import isolated, runtime, told

if TYPE_CHECKING:
    from pathlib import Path

    from emulator.containers.runtime import SupervisedRuntime

__all__ = ["runtime"]

CODE = """
def go():
    os.remove("/vol/old")
    os.mkdir("/vol/made")
    open("/vol/made/new", "w").write("new")
    open("/vol/changed", "a").write(" and more")
    tell(sorted(os.listdir("/vol")))
"""


@isolated
@pytest.mark.slow
async def test_what_is_written_is_the_containers_own_until_it_is_committed(
    runtime: SupervisedRuntime,
    tmp_path: Path,
) -> None:
    (tmp_path / "scratch").mkdir()
    files = VolumeFiles(tmp_path / "volume", tmp_path / "scratch")
    for name in ("old", "changed"):
        (files.root / name).write_text(name)
    view = View("vo-1", files, sub_path="", read_only=False)
    assert await told(runtime, tmp_path, CODE, volumes={"/vol": files.root}, views={"/vol": view}) == [
        "changed",
        "made",
    ]
    assert sorted(path.name for path in files.root.iterdir()) == ["changed", "old"]
    view.commit()
    assert sorted(path.name for path in files.root.iterdir()) == ["changed", "made"]
    assert (files.root / "changed").read_text() == "changed and more"
    assert (files.root / "made" / "new").read_text() == "new"
    view.close()
    files.snapshots.forget()
    assert list(files.scratch.iterdir()) == []
