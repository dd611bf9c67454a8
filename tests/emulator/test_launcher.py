"""What a container is started from: the published function, as a spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from modal_proto import api_pb2

from emulator.containers.base import ContainerSpec
from emulator.launcher import ContainerLauncher
from emulator.protocol.dispatch import Dispatcher
from emulator.state import App, FunctionRecord, Secret, State, Volume
from emulator.storage.content import ContentStore

if TYPE_CHECKING:
    from pathlib import Path


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
            state=self.state,
            content=ContentStore(self.folder / "content"),
            sockets=self.folder,
            environment=dict,
            shared_ports=lambda: web_ports,
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
