"""A Volume's folder, and the part of it that a container sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emulator.storage.volumes import part_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_part_is_a_folder_in_the_volume_there_yet_or_not(tmp_path: Path) -> None:
    assert part_of(tmp_path, "") == tmp_path
    assert part_of(tmp_path, "/") == tmp_path
    assert part_of(tmp_path, "/models/small/") == tmp_path / "models" / "small"


@pytest.mark.parametrize("sub_path", ["..", "../../../..", "a/../../other", "a/..", "link", "link/more"])
def test_a_part_that_leads_out_of_the_volume_is_refused(tmp_path: Path, sub_path: str) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match=r"leads out of the Volume"):
        part_of(tmp_path / "volume", sub_path)
