"""What a deploy refuses before it declares anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from functions.deployment import settings_for_deploy
from functions.images import needs_weights
from functions.servers import gpu_of, port_of, scale_and_place
from infra.configuration import ConfigurationError
from infra.model_files import refuse_missing_files
from infra.refusals import refuse_unprotected_deploy, refuse_without_credentials, refuse_without_image
from infra.revisions import is_commit
from infra.settings import Deploy, Model, Models, Security, Settings, State
from tests.model_examples import FILES, example

if TYPE_CHECKING:
    from pathlib import Path


def test_a_public_endpoint_without_keys_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="allow_public = true"):
        refuse_unprotected_deploy(Settings())


@pytest.mark.parametrize(
    "settings",
    [
        Settings(security=Security(allow_public=True)),
        Settings(security=Security(enable_auth=True)),
        Settings(deploy=Deploy(target="local")),
    ],
)
def test_it_is_allowed_with_keys_or_by_saying_so_or_on_this_machine(settings: Settings) -> None:
    refuse_unprotected_deploy(settings)


ROLE = "arn:aws:iam::123456789012:role/state"


def test_web_containers_that_could_not_reach_their_state_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r'^state\.role_arn: .*state\.secret.*state\.kind = "memory"'):
        refuse_without_credentials(Settings())
    with pytest.raises(ConfigurationError, match=r"^state\.region: is not set"):
        refuse_without_credentials(Settings(state=State(role_arn=ROLE)))
    for allowed in (State(kind="memory"), State(secret="aws"), State(role_arn=ROLE, region="eu-central-1")):
        refuse_without_credentials(Settings(state=allowed))
    refuse_without_credentials(Settings(deploy=Deploy(target="local")))


def test_a_wrong_configuration_ends_the_process_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER__PORT", "none")
    with pytest.raises(SystemExit, match=r"^environment: server\.port: expected a valid integer"):
        settings_for_deploy()


def test_a_deploy_to_modal_names_the_models_whose_weights_may_change_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pinned = {"id": "pinned", "name": "org/pinned", "revision": "0" * 40}
    models = [{"id": "moving", "name": "org/moving", "revision": "main"}, pinned]
    for name, value in {
        "MODELS__AVAILABLE_MODELS": json.dumps(models), "SECURITY__ALLOW_PUBLIC": "true", "STATE__KIND": "memory",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings_for_deploy()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("model 'moving': revision: expected a commit, without which what is fetched may change")
    monkeypatch.setenv("DEPLOY__TARGET", "local")
    settings_for_deploy()
    assert capsys.readouterr().err == ""


def test_a_model_whose_path_leads_to_nothing_is_refused_by_name() -> None:
    models = Models(available_models=(Model(id="mine", name="mine", path="/models/nothing.gguf"),))
    with pytest.raises(ConfigurationError, match=r"'mine' leads to nothing: /models/nothing\.gguf"):
        refuse_missing_files(Settings(models=models))
    refuse_missing_files(Settings())


def test_only_engines_that_run_on_a_gpu_ask_for_one() -> None:
    gpu, cpu = Model(id="a", name="a", gpu="H100"), Model(id="b", name="b", device="cpu")
    cloud = Settings(models=Models(available_models=(gpu, cpu)))
    local = cloud.model_copy(update={"deploy": Deploy(target="local")})
    assert [gpu_of(model, cloud) for model in (gpu, cpu)] == ["H100", None]
    assert [gpu_of(model, local) for model in (gpu, cpu)] == [None, None]


def test_sglang_on_modals_cpus_needs_an_image_of_ones_own() -> None:
    told = {"id": "m", "name": "m", "device": "cpu", "engine": "sglang"}
    bare, own = [
        Settings.model_validate({"models": {"available_models": [{**told, "sglang": {"image": image}}]}})
        for image in (None, "me/sglang-cpu:v0.5.23")
    ]
    with pytest.raises(ConfigurationError, match=r"sglang\.image: .*xeon\.Dockerfile.*llamacpp"):
        refuse_without_image(bare)
    refuse_without_image(own)
    refuse_without_image(bare.model_copy(update={"deploy": Deploy(target="local")}))
    refuse_without_image(Settings())


def test_no_two_containers_listen_on_one_port() -> None:
    models = tuple(Model(id=name, name=name) for name in "abc")
    settings = Settings(models=Models(available_models=models), deploy=Deploy(first_port=9000))
    assert [port_of(model, settings) for model in models] == [9001, 9002, 9003]  # 9000 is the web endpoint's


def test_the_volume_of_weights_is_for_engines_that_have_some() -> None:
    real, scripted = Model(id="a", name="a"), Model(id="b", name="b", local_engine="scripted")
    settings = Settings(models=Models(available_models=(real, scripted)), deploy=Deploy(target="local"))
    assert [needs_weights(model, settings) for model in (real, scripted)] == [True, False]


def test_modal_is_told_what_is_configured_of_scaling_and_place_and_no_more() -> None:
    plain = Model(id="a", name="a")
    told = Model.model_validate(
        {
            "id": "b", "name": "b",
            "scaling": {"max_concurrency": 32, "target_concurrency": 24, "buffer_containers": 1, "scaleup_window": 5},
            "container": {"regions": ["us-east", "us-west"], "memory": 4096, "nonpreemptible": True},
        }
    )  # fmt: skip
    settings = Settings(models=Models(available_models=(plain, told), max_concurrent_requests=7))
    counts = {"min_containers": 0, "max_containers": 1, "buffer_containers": 0, "scaledown_window": 300}
    assert scale_and_place(plain, settings) == {**counts, "max_concurrency": 7, "nonpreemptible": False}
    assert scale_and_place(told, settings) == {
        **counts, "buffer_containers": 1, "max_concurrency": 32, "target_concurrency": 24.0, "scaleup_window": 5,
        "compute_region": ["us-east", "us-west"], "memory": 4096, "nonpreemptible": True,
    }  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_examples_are_pinned_and_go_together(file: Path) -> None:
    model = example(file)
    assert model.id == file.stem.removesuffix("-instruct")
    assert is_commit(model.revision)
    assert model.prices.engine_seconds > 0
