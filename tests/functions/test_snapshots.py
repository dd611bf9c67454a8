"""Which models' containers start from snapshots, what Modal is told of it, and what is refused when it is deployed."""

from __future__ import annotations

import pytest

from functions.engines.sglang import that_wakes
from functions.images import keeps_compiled, sleeps_in_snapshots
from functions.servers import EngineServer, SnapshotServer, server_of, snapshots_of
from infra.configuration import ConfigurationError
from infra.refusals import refuse_impossible_snapshots
from infra.settings import Deploy, Model, Models, Settings

ON_GPU = Model(id="m", name="org/m", snapshot=True)


def settings(model: Model, target: str = "modal", **models: object) -> Settings:
    return Settings(
        models=Models.model_validate({"available_models": [model.model_dump()], **models}),
        deploy=Deploy.model_validate({"target": target}),
    )


def test_a_model_on_a_gpu_has_snapshots_of_memory_and_gpu() -> None:
    given = settings(ON_GPU)
    refuse_impossible_snapshots(given)
    assert server_of(ON_GPU, given) is SnapshotServer
    assert snapshots_of(ON_GPU, given) == {
        "enable_memory_snapshot": True, "experimental_options": {"enable_gpu_snapshot": True},
    }  # fmt: skip


def test_unless_it_is_configured_there_is_none() -> None:
    plain = ON_GPU.model_copy(update={"snapshot": False})
    assert server_of(plain, settings(plain)) is EngineServer
    assert snapshots_of(plain, settings(plain)) == {}


def test_an_engine_that_takes_its_place_here_and_cannot_sleep_is_started_without() -> None:
    here = settings(ON_GPU, target="local")
    refuse_impossible_snapshots(here)
    assert not sleeps_in_snapshots(ON_GPU, here)
    double = ON_GPU.model_copy(update={"local_engine": "scripted"})
    assert snapshots_of(double, settings(double, target="local")) == {"enable_memory_snapshot": True}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"engine": "llamacpp"}, "llama.cpp cannot give its memory back"),
        ({"engine": "sglang", "device": "cpu"}, "SGLang gives memory back on a GPU"),
        ({"gpu": "H100:2"}, "'H100:2' is several, and what they say to each other"),
    ],
)
def test_what_cannot_be_in_a_snapshot_is_refused_with_the_reason(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'m' has snapshot = true, and .*{reason}"):
        refuse_impossible_snapshots(settings(Model.model_validate({**ON_GPU.model_dump(), **changes})))


def test_the_weights_of_a_sleeping_server_are_kept_and_those_of_its_draft() -> None:
    assert that_wakes(["serve"], snapshot=False) == ["serve"]
    assert that_wakes(["serve"], snapshot=True) == ["serve", "--enable-memory-saver", "--enable-weights-cpu-backup"]
    for flag in (["--speculative-algorithm", "EAGLE3"], ["--speculative-algorithm=EAGLE3"]):
        assert that_wakes(flag, snapshot=True)[-1] == "--enable-draft-weights-cpu-backup"


def test_what_sglang_compiles_is_kept_unless_it_is_configured_otherwise() -> None:
    assert keeps_compiled(ON_GPU, settings(ON_GPU))
    assert not keeps_compiled(ON_GPU, settings(ON_GPU, keep_compiled=False))
    assert not keeps_compiled(ON_GPU, settings(ON_GPU, target="local"))
