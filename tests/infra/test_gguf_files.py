"""GGUF models in several files are all of them, wherever they are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest

from functions.images import _with_files
from infra.configuration import ConfigurationError
from infra.doctor.engines import wrong_with
from infra.gguf_files import only_model, part_missing, parts_of
from infra.model_files import model_files, refuse_missing_files
from infra.settings import Model, Models, Settings

FIRST, SECOND = "m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf"


def served(path: Path) -> Settings:
    model = Model(id="m", name="org/m", path=str(path), device="cpu")
    return Settings(models=Models(available_models=(model,)))


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (FIRST, [FIRST, SECOND]),
        (SECOND, [FIRST, SECOND]),
        ("m.gguf", ["m.gguf"]),
        ("m-1-of-2.gguf", ["m-1-of-2.gguf"]),
        ("m-00003-of-00002.gguf", ["m-00003-of-00002.gguf"]),
        ("m-00001-of-00002.safetensors", ["m-00001-of-00002.safetensors"]),
    ],
)
def test_a_part_s_name_tells_all_of_them(name: str, parts: list[str]) -> None:
    assert [part.name for part in parts_of(Path("/models") / name)] == parts


def test_a_folder_holds_one_model_where_all_its_files_are_of_one() -> None:
    assert only_model([Path(SECOND), Path(FIRST)]) == Path(FIRST)
    assert only_model([Path(SECOND)]) == Path(FIRST)
    assert only_model([Path(FIRST), Path("m.gguf")]) is None
    assert only_model([]) is None
    assert only_model([Path("m.gguf"), Path("mmproj-m.gguf")]) == Path("m.gguf")


def test_a_part_that_is_not_there_is_named_by_the_deploy_and_the_doctor(tmp_path: Path) -> None:
    first, second = tmp_path / FIRST, tmp_path / SECOND
    first.write_bytes(b"GGUF")
    said = f"of its 2 parts {SECOND} cannot be found"
    for wrong in (part_missing(first), wrong_with(first, "llamacpp"), wrong_with(tmp_path, "llamacpp")):
        assert said in str(wrong)
    with pytest.raises(ConfigurationError, match=rf"the path of 'm', .*{said}; fetch all of them into one folder"):
        refuse_missing_files(served(first))
    second.write_bytes(b"GGUF")
    assert [part_missing(first), wrong_with(first, "llamacpp"), wrong_with(tmp_path, "llamacpp")] == [None] * 3
    refuse_missing_files(served(first))
    with pytest.raises(ConfigurationError, match=rf"{SECOND}: is one of 2 parts, .*; set `path` to {FIRST}"):
        refuse_missing_files(served(second))


class Image:
    """Keeps what is added to it."""

    def __init__(self) -> None:
        self.added: dict[str, Path] = {}

    def add_local_file(self, path: Path, remote: str) -> Self:
        self.added[remote] = path
        return self


def test_all_parts_travel_in_the_image_by_their_own_names_though_they_are_links(tmp_path: Path) -> None:
    """As in Hugging Face's cache, whose files are named by their hashes."""
    (tmp_path / "blobs").mkdir()
    for name in (FIRST, SECOND):
        (tmp_path / "blobs" / name[7:12]).write_bytes(b"GGUF")
        (tmp_path / name).symlink_to(tmp_path / "blobs" / name[7:12])
    image: Any = Image()
    (model,) = served(tmp_path / FIRST).models.available_models
    _with_files(image, model)
    assert image.added == {f"/models/m/{name}": tmp_path.resolve() / name for name in (FIRST, SECOND)}
    assert model_files(model) == tmp_path.resolve() / FIRST
