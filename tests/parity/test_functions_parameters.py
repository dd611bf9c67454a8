"""Every parameter of `@app.function` and `@app.cls` has its row, and what is experimental has one too."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import modal
import modal.experimental
import pytest

from tests.parity.support_table import rows

if TYPE_CHECKING:
    from tests.parity.kit import Target

ROWS = {
    "image": ("Functions", "image"),
    "schedule": ("Functions", "schedule=modal.Cron"),
    "env": ("Functions", "env"),
    "secrets": ("Functions", "secrets"),
    "gpu": ("Functions", "gpu"),
    "serialized": ("Functions", "serialized"),
    "network_file_systems": ("Functions", "network_file_systems"),
    "volumes": ("Functions", "volumes"),
    "cpu": ("Functions", "cpu"),
    "memory": ("Functions", "memory"),
    "ephemeral_disk": ("Functions", "ephemeral_disk"),
    "proxy": ("Functions", "proxy"),
    "retries": ("Functions", "retries"),
    "timeout": ("Functions", "timeout"),
    "startup_timeout": ("Functions", "startup_timeout"),
    "name": ("Functions", "name"),
    "is_generator": ("Functions", "is_generator"),
    "cloud": ("Functions", "region, cloud, routing_region"),
    "region": ("Functions", "region, cloud, routing_region"),
    "routing_region": ("Functions", "region, cloud, routing_region"),
    "nonpreemptible": ("Functions", "nonpreemptible"),
    "enable_memory_snapshot": ("Functions", "enable_memory_snapshot, restrict_modal_access, i6pn"),
    "restrict_modal_access": ("Functions", "enable_memory_snapshot, restrict_modal_access, i6pn"),
    "i6pn": ("Functions", "enable_memory_snapshot, restrict_modal_access, i6pn"),
    "block_network": ("Functions", "block_network"),
    "single_use_containers": ("Functions", "single_use_containers"),
    "include_source": ("Functions", "include_source"),
    "experimental_options": ("Functions", "experimental_options"),
    "_experimental_restrict_output": ("Functions", "_experimental_restrict_output"),
    "max_inputs": ("Functions", "max_inputs"),
}
OF_THE_AUTOSCALER = {"min_containers", "max_containers", "buffer_containers", "scaledown_window"}
"""Which have a section of their own."""


@pytest.mark.row("Functions", "Every parameter")
@pytest.mark.parametrize("decorator", [modal.App.function, modal.App.cls])
def test_every_parameter_of_the_installed_client_s_decorators_has_a_row(decorator: object) -> None:
    parameters = set(inspect.signature(decorator).parameters) - {"self", "_warn_parentheses_missing"}  # type: ignore[arg-type]
    assert parameters - set(ROWS) - OF_THE_AUTOSCALER == set()
    told = {(row.section, row.name) for row in rows()}
    assert set(ROWS.values()) - told == set()


@pytest.mark.row("Functions", "image")
def test_the_variables_and_the_folder_of_an_image_are_the_container_s(target: Target) -> None:
    app = target.deploy("imaged.py")
    assert app.function("surroundings").remote() == ("from the image", "/srv")


@pytest.mark.row("Functions", "volumes")
def test_what_one_container_writes_to_a_volume_another_reads(target: Target) -> None:
    app = target.deploy("imaged.py")
    app.function("writes").remote("a line")
    assert app.function("reads").remote() == "a line"


@pytest.mark.row("Functions", "modal.experimental.stop_fetching_inputs")
def test_a_container_may_make_the_input_that_it_has_its_last(target: Target) -> None:
    last_one = target.deploy("experiments.py").function("last_one")
    assert last_one.remote() != last_one.remote()


@pytest.mark.row("Functions", "modal.experimental.set_local_input_concurrency")
def test_a_container_may_take_fewer_inputs_at_once(target: Target) -> None:
    narrowed = target.deploy("experiments.py").function("narrowed")
    assert narrowed.remote(2) == 2
    assert list(narrowed.map([0, 0, 0, 0])) == [2, 2, 2, 2]


@pytest.mark.row("Functions", "modal.experimental.list_cluster_reservations")
@pytest.mark.since("1.6")
@pytest.mark.emulator_only("Modal has them")
def test_there_are_no_clusters_to_reserve(target: Target) -> None:
    with pytest.raises(modal.exception.UnimplementedError, match="does not implement"):
        modal.experimental.list_cluster_reservations(client=target.client)


@pytest.mark.row("Functions", "modal.experimental.list_deployed_apps, get_app_lifecycle, get_app_objects")
def test_deployed_apps_are_listed_with_what_they_have(target: Target) -> None:
    name = target.deploy("experiments.py").name
    [app] = [app for app in modal.experimental.list_deployed_apps(client=target.client) if app.name == name]
    objects = modal.experimental.get_app_objects(name, client=target.client)
    assert set(objects) == {"last_one", "narrowed", "streams"}
    assert app.app_id.startswith("ap-")


@pytest.mark.row("Functions", "modal.experimental.list_deployed_apps, get_app_lifecycle, get_app_objects")
@pytest.mark.since("1.6")
def test_the_life_of_an_app_is_told(target: Target) -> None:
    name = target.deploy("experiments.py").name
    [app] = [app for app in modal.experimental.list_deployed_apps(client=target.client) if app.name == name]
    life = modal.experimental.get_app_lifecycle(app.app_id, client=target.client)
    assert (life.version, life.stopped_at) == (1, None)
    assert life.deployed_at is not None
    assert life.created_at <= life.deployed_at


@pytest.mark.row("Functions", "modal.experimental.Stream")
@pytest.mark.since("1.6")
@pytest.mark.emulator_only("Modal has them")
def test_there_are_no_streams(target: Target) -> None:
    assert "does not implement" in target.deploy("experiments.py").function("streams").remote()
