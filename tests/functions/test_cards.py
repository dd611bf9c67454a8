"""Which GPUs this machine has decides what is started on it; what Modal rents is for Modal."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from functions.boot import Boot
from functions.cards import largest_gib
from functions.engines.base import Address, EngineStartError
from functions.engines.registry import make_engine
from functions.local_engines import LocalEngines
from infra.settings import Deploy, Model, Models, Settings
from web.clock import RealClock
from web.sightings import Sightings

if TYPE_CHECKING:
    from pathlib import Path

    from functions.engines.base import Engine

HERE = Address(host="127.0.0.1", port=9)
GIB = 1 << 30


def has_cards(folder: Path, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for NVIDIA's program, which says `told` when it is asked for what SGLang asks it, too."""
    program = folder / "nvidia-smi"
    asked = '"$*" = "--query-gpu=memory.total --format=csv,noheader,nounits"'
    program.write_text(f"#!/bin/sh\n[ {asked} ] && printf '{told}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("told", "gib"), [("23034\\n81559\\n", 79.65), ("[N/A]\\n", math.inf), ("", math.inf), ("23034\\n[N/A]\\n", 22.49)]
)
def test_the_largest_card_is_told_as_far_as_it_can_be(
    told: str, gib: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_cards(tmp_path, told, monkeypatch)
    assert largest_gib() == pytest.approx(gib, abs=0.01)


def test_a_machine_without_the_program_tells_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert largest_gib() == math.inf


@pytest.mark.parametrize(
    ("told", "gpu", "refused"),
    [
        ("81559\\n", "L4", None),
        ("[N/A]\\n", "L4", None),
        (
            "23034\\n",
            "H100",
            r"gpu: the weights are 61.0 GiB, 30.5 on each GPU, and the largest one here has 22.5",
        ),
    ],
)
def test_weights_are_measured_by_the_card_that_is_here_and_not_by_the_one_that_modal_would_rent(
    told: str, gpu: str, refused: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sglang").mkdir()
    (tmp_path / "sglang" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)  # it is installed
    has_cards(tmp_path, told, monkeypatch)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3", "torch_dtype": "float32"}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 61 * GIB}}))
    model = Model(id="m", name="org/m", path=str(tmp_path), gpu=gpu)
    settings = Settings(models=Models(available_models=(model,)), deploy=Deploy(target="modal"))

    def made() -> Engine:
        return LocalEngines(settings, sightings=Sightings(), clock=RealClock())._maker(model)(HERE, Boot())

    if refused is None:
        assert made().kind == "sglang"
        with pytest.raises(EngineStartError, match=r"30.5 on each GPU, and L4 has 24; expected"):  # in a container
            make_engine(model, settings, address=HERE, api_key=None, files=tmp_path)
    else:
        with pytest.raises(EngineStartError, match=refused):
            made()
