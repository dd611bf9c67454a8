"""Names of Secrets, Volumes and environments, as a client that checks nothing itself would send them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from grpclib import Status
from modal_proto import api_pb2

from emulator.clock import RealClock
from emulator.protocol.environments import EnvironmentHandlers
from emulator.protocol.secrets import SecretHandlers
from emulator.protocol.volumes import VolumeHandlers
from emulator.state import State
from emulator.storage.volume_store import VolumeStore
from tests.emulator.protocol_kit import refused, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from modal_proto.api_grpc import ModalClientStub

CREATE = api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING
EPHEMERAL = api_pb2.OBJECT_CREATION_TYPE_EPHEMERAL
NO_NAMES = ["", ".", "..", "../victim", "x/../../victim", "/etc", "a b", "a\nb", "n" * 65]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ModalClientStub]:
    state, clock = State(), RealClock()
    volumes = VolumeHandlers(state, clock, VolumeStore(tmp_path / "temporary", clock.monotonic), tmp_path / "volumes")
    async with served(EnvironmentHandlers(state, clock), SecretHandlers(state, clock), volumes) as stub:
        yield stub


def volume(name: str, environment: str = "", kind: int = CREATE) -> api_pb2.VolumeGetOrCreateRequest:
    return api_pb2.VolumeGetOrCreateRequest(
        deployment_name=name,
        environment_name=environment,
        object_creation_type=kind,  # type: ignore[arg-type]
    )


def secret(name: str, environment: str = "") -> api_pb2.SecretGetOrCreateRequest:
    return api_pb2.SecretGetOrCreateRequest(
        deployment_name=name, environment_name=environment, object_creation_type=CREATE
    )


def below(folder: Path, pattern: str = "*") -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern))


def mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


@pytest.mark.parametrize("name", NO_NAMES)
async def test_what_is_no_name_makes_nothing_and_names_no_folder(
    server: ModalClientStub, tmp_path: Path, name: str
) -> None:
    assert "Invalid Volume name" in await refused(server.VolumeGetOrCreate(volume(name)), Status.INVALID_ARGUMENT)
    assert "Invalid Secret name" in await refused(server.SecretGetOrCreate(secret(name)), Status.INVALID_ARGUMENT)
    assert below(tmp_path) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "a.b", "-a", "en-1", "n" * 65])
async def test_an_environment_has_a_name_that_is_one(server: ModalClientStub, name: str) -> None:
    create = api_pb2.EnvironmentCreateRequest(name=name)
    assert "Invalid Environment name" in await refused(server.EnvironmentCreate(create), Status.INVALID_ARGUMENT)
    get = api_pb2.EnvironmentGetOrCreateRequest(deployment_name=name, object_creation_type=CREATE)
    await refused(server.EnvironmentGetOrCreate(get), Status.INVALID_ARGUMENT)


async def test_nothing_is_made_or_listed_in_an_environment_that_does_not_exist(
    server: ModalClientStub, tmp_path: Path
) -> None:
    for call in (
        server.VolumeGetOrCreate(volume("data", "nowhere")),
        server.VolumeGetOrCreate(volume("", "nowhere", EPHEMERAL)),
        server.SecretGetOrCreate(secret("keys", "nowhere")),
        server.VolumeList(api_pb2.VolumeListRequest(environment_name="nowhere")),
        server.SecretList(api_pb2.SecretListRequest(environment_name="nowhere")),
    ):
        assert await refused(call, Status.NOT_FOUND) == "Environment 'nowhere' not found"
    assert below(tmp_path) == []


async def test_each_environment_has_volumes_of_its_own(server: ModalClientStub, tmp_path: Path) -> None:
    await server.EnvironmentCreate(api_pb2.EnvironmentCreateRequest(name="x"))
    ids = {
        (await server.VolumeGetOrCreate(volume(name, environment))).volume_id
        for environment in ("main", "x")
        for name in ("y", "x.y")
    }
    assert len(ids) == 4
    assert below(tmp_path / "volumes") == sorted(ids)
    assert mode(tmp_path / "volumes") == 0o700
    listed = await server.VolumeList(api_pb2.VolumeListRequest(environment_name="x"))
    assert sorted(item.label for item in listed.items) == ["x.y", "y"]


async def test_deleting_a_volume_removes_its_folder_and_no_other(server: ModalClientStub, tmp_path: Path) -> None:
    kept = await server.VolumeGetOrCreate(volume("kept"))
    gone = await server.VolumeGetOrCreate(volume("gone"))
    await server.VolumeDelete(api_pb2.VolumeDeleteRequest(volume_id=gone.volume_id))
    assert below(tmp_path / "volumes") == [kept.volume_id]
    assert (await server.VolumeGetOrCreate(volume("kept"))).volume_id == kept.volume_id


async def test_anonymous_volumes_are_each_their_own_and_apart_from_those_that_are_kept(
    server: ModalClientStub, tmp_path: Path
) -> None:
    ids = [(await server.VolumeGetOrCreate(volume("", kind=EPHEMERAL))).volume_id for _ in range(2)]
    assert below(tmp_path / "temporary" / "volumes") == sorted(set(ids))
    assert below(tmp_path / "volumes") == []
