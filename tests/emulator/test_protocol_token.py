"""Who may talk to the control plane: clients that have this emulator's token, and its own containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from google.protobuf.empty_pb2 import Empty
from grpclib import Status
from grpclib.client import Channel
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app
from tests.emulator.protocol_kit import refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

APP = """
import modal
app = modal.App("nested")

@app.function()
def inner():
    return 7

@app.function()
def outer():
    return inner.remote()

@app.local_entrypoint()
def main():
    print("RETURNED", outer.remote())
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
async def stub(emulator: Emulator) -> AsyncIterator[ModalClientStub]:
    channel = Channel("127.0.0.1", int(emulator.server_url.rpartition(":")[2]))
    yield ModalClientStub(channel)
    channel.close()


def token(emulator: Emulator, **changed: str) -> dict[str, str]:
    sent = {"id": emulator.environment["MODAL_TOKEN_ID"], "secret": emulator.environment["MODAL_TOKEN_SECRET"]}
    return {f"x-modal-token-{part}": value for part, value in {**sent, **changed}.items()}


async def test_the_emulators_own_token_is_served(emulator: Emulator, stub: ModalClientStub) -> None:
    await stub.ClientHello(Empty(), metadata=token(emulator))


@pytest.mark.parametrize("changed", [{"secret": "as-emulator"}, {"id": "ak-other"}])
async def test_another_token_is_refused(emulator: Emulator, stub: ModalClientStub, changed: dict[str, str]) -> None:
    said = await refused(stub.ClientHello(Empty(), metadata=token(emulator, **changed)), Status.UNAUTHENTICATED)
    assert "`emulator env`" in said


async def test_without_a_token_nothing_is_served_streams_and_what_is_not_implemented_included(
    stub: ModalClientStub,
) -> None:
    await refused(stub.AppCreate(api_pb2.AppCreateRequest()), Status.UNAUTHENTICATED)
    await refused(stub.DictList(api_pb2.DictListRequest()), Status.UNAUTHENTICATED)
    await refused(stub.AppGetLogs(api_pb2.AppGetLogsRequest(app_id="ap-1")), Status.UNAUTHENTICATED)


def test_the_client_says_so_in_its_own_words(emulator: Emulator, tmp_path: Path) -> None:
    result = modal(emulator, "app", "list", cwd=tmp_path, env={"MODAL_TOKEN_SECRET": "as-emulator"})
    assert result.returncode != 0
    assert "this emulator takes only its own token" in result.stdout + result.stderr


def test_no_two_emulators_have_the_same_token(emulator: Emulator) -> None:
    with Emulator(containers="process") as other:
        assert other.environment["MODAL_TOKEN_SECRET"] != emulator.environment["MODAL_TOKEN_SECRET"]


def test_containers_call_without_one(emulator: Emulator, tmp_path: Path) -> None:
    write_app(tmp_path, APP)
    result = modal(emulator, "run", "app.py", cwd=tmp_path)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "RETURNED 7" in result.stdout
