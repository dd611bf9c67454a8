"""What a container that is a thread cannot be given is refused by name, with what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from emulator.containers import choose_runtime
from emulator.containers.base import ContainerStartError, MountedFile
from tests.emulator.containers_kit import Output, spec_of

if TYPE_CHECKING:
    from pathlib import Path

LISTS_OF_PACKAGES = ["/.uv/0/web.txt", "/.uv/uv.lock", "/.requirements.txt", "/tmp/poetry/poetry.lock"]
"""Where the client copies them for `uv_pip_install`, `uv_sync`, `pip_install_from_requirements` and poetry's."""

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a blocked network": ({"block_network": True}, "`block_network` can not be kept"),
    "a sandbox": ({"bare": True}, "can not be bare"),
    "a volume where something is": ({"volumes": {"/usr": "."}}, "the volume cannot be shown at /usr"),
    "a file beside the source": ({"files": ["/data/table.csv"]}, "/data/table.csv was added to the image"),
    "but no list of packages": ({"files": [*LISTS_OF_PACKAGES, "/data/x"]}, "/data/x was added to the image"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_a_thread_cannot_give_is_refused_by_name(tmp_path: Path, name: str) -> None:
    asked, told = REFUSED[name]
    options = dict(asked)
    if "volumes" in options:
        options["volumes"] = dict.fromkeys(options["volumes"], tmp_path)
    if "files" in options:
        options["files"] = [MountedFile(path, tmp_path / "source") for path in options["files"]]
    runtime = choose_runtime("thread")
    try:
        with pytest.raises(ContainerStartError) as refusal:
            await runtime.start(spec_of(tmp_path, "", **options), Output().on_output)
        assert told in str(refusal.value)
        assert "use containers='zygote'" in str(refusal.value)
    finally:
        await runtime.close()


async def test_a_volume_is_seen_at_its_path_by_a_link_that_goes_with_the_runtime(tmp_path: Path) -> None:
    volume, path = tmp_path / "volume", tmp_path / "seen"
    volume.mkdir()
    runtime = choose_runtime("thread")
    try:
        # Refused for another reason, once the volume is there.
        files = [MountedFile("/data/table.csv", tmp_path / "source")]
        with pytest.raises(ContainerStartError):
            await runtime.start(spec_of(tmp_path, "", volumes={str(path): volume}, files=files), Output().on_output)
        assert path.resolve() == volume
    finally:
        await runtime.close()
    assert not path.is_symlink()
