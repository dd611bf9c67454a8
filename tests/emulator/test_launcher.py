"""What a container is started from: the published function, as a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from modal_proto import api_pb2

from emulator.clock import RealClock
from emulator.containers.base import ContainerSpec, ContainerStartError
from emulator.launcher import ContainerLauncher
from emulator.protocol.dispatch import Dispatcher
from emulator.state import App, FunctionRecord, ImageRecord, Secret, State, Volume
from emulator.storage.content import ContentStore
from emulator.storage.views import Views
from emulator.storage.volume_store import VolumeStore

if TYPE_CHECKING:
    from pathlib import Path


async def no_environment(_image: ImageRecord) -> None:
    """The emulator's own is used."""


class Deployed:
    """A state with one app, and the specs that its functions' containers get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = State()
        self.state.apps["ap-1"] = App("ap-1", "app", "main", api_pb2.APP_STATE_DEPLOYED, 0.0, 0.0, name="app")
        self.volume = folder / "volumes" / "v"
        self.volume.mkdir(parents=True)
        version = api_pb2.VOLUME_FS_VERSION_V2
        self.state.volumes["vo-1"] = Volume("vo-1", "v", "main", self.volume, version, 0.0)
        self.state.secrets["st-1"] = Secret("st-1", "keys", "main", {"KEY": "lime"}, 0.0)

    async def spec(self, *, web_ports: tuple[int, ...] = (), **definition: Any) -> ContainerSpec:
        launcher = ContainerLauncher(
            clock=RealClock(),
            state=self.state,
            content=ContentStore(self.folder / "content"),
            views=Views(RealClock(), print),
            volumes=VolumeStore(self.folder / "scratch", RealClock().monotonic),
            sockets=self.folder,
            environment=dict,
            shared_ports=lambda: web_ports,
            python_of=no_environment,
            changes=self.folder / "changes",
            server_url="http://127.0.0.1:1",
        )
        launcher.connect(Dispatcher([], print))
        record = FunctionRecord("fu-1", "ap-1", "f", api_pb2.Function(function_name="f", **definition))
        try:
            return await launcher.prepare(record, "ta-00000001")
        finally:
            await launcher.release("ta-00000001")


@pytest.fixture
def deployed(tmp_path: Path) -> Deployed:
    return Deployed(tmp_path)


async def test_a_servers_own_port_is_not_taken_by_a_web_address_of_the_same_number(deployed: Deployed) -> None:
    server = await deployed.spec(web_ports=(4000, 8000), is_server=True, http_config=api_pb2.HTTPConfig(port=8000))
    assert (server.fixed_ports, server.shared_ports) == ((8000,), (4000,))
    pages = await deployed.spec(
        web_ports=(4000, 8000),
        webhook_config=api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_WEB_SERVER, web_server_port=4000),
    )
    assert (pages.fixed_ports, pages.shared_ports) == ((4000,), (8000,))


def mount(**options: Any) -> api_pb2.VolumeMount:
    return api_pb2.VolumeMount(volume_id="vo-1", mount_path="/data", **options)


async def test_a_part_of_a_volume_that_is_not_there_yet_is_made(deployed: Deployed) -> None:
    spec = await deployed.spec(volume_mounts=[mount(sub_path="/models/small")])
    assert spec.volumes == {"/data": deployed.volume / "models" / "small"}
    assert spec.volumes["/data"].is_dir()


async def test_a_part_of_a_volume_that_leads_out_of_it_is_refused(deployed: Deployed) -> None:
    (deployed.volume / "link").symlink_to(deployed.folder)
    for sub_path in ("../../outside", "models/../../outside", "link/outside"):
        with pytest.raises(ContainerStartError, match=r"/data: .*leads out of the Volume"):
            await deployed.spec(volume_mounts=[mount(sub_path=sub_path)])
    assert not list(deployed.folder.rglob("outside"))


async def test_a_part_of_a_volume_that_is_a_file_is_an_error_that_says_where(deployed: Deployed) -> None:
    (deployed.volume / "file").touch()
    with pytest.raises(ContainerStartError, match="nothing can be mounted at /data"):
        await deployed.spec(volume_mounts=[mount(sub_path="file")])


async def test_a_volume_that_is_mounted_read_only_is_told_so(deployed: Deployed) -> None:
    assert (await deployed.spec(volume_mounts=[mount(read_only=True)])).read_only == {"/data"}
    assert (await deployed.spec(volume_mounts=[mount()])).read_only == frozenset()


async def test_what_a_function_names_and_is_deleted_is_missed_by_its_name(deployed: Deployed) -> None:
    assert (await deployed.spec(secret_ids=["st-1"])).environment["KEY"] == "lime"
    deployed.state.secrets.clear()
    deployed.state.volumes.clear()
    with pytest.raises(ContainerStartError, match="the Secret st-1 has been deleted"):
        await deployed.spec(secret_ids=["st-1"])
    with pytest.raises(ContainerStartError, match="the Volume vo-1 that is mounted at /data has been deleted"):
        await deployed.spec(volume_mounts=[mount()])
