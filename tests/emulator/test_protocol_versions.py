"""Versions of a deployed app: kept, skipped, brought back; and apps whose client is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

import emulator.protocol.publishing as publishing_module
from emulator.protocol.apps import HEARTBEAT_TIMEOUT
from emulator.protocol.dispatch import Caller
from emulator.protocol.publishing import Publisher
from emulator.state import App
from tests.emulator.deploys_kit import CLIENT, Deployer, deploying
from tests.emulator.heart_kit import FakeMachine, machine, settle, succeeded, taken

__all__ = ["machine"]


class Redeployer:
    """One function `f`, deployed again and again with another time limit each."""

    def __init__(self, machine: FakeMachine, deployer: Deployer) -> None:
        self.machine = machine
        self.deployer = deployer
        self.handlers = deployer.deployments
        self.function_id = ""

    async def deploy(self, timeout: int, *, staged: bool = False, version: str = "") -> float:
        return await self.publish(await self.create(timeout), staged=staged, version=version)

    async def create(self, timeout: int) -> str:
        """Returns the id of the definition."""
        definition = api_pb2.Function(function_name="f", timeout_secs=timeout)
        request = api_pb2.FunctionCreateRequest(
            app_id="ap-1", function=definition, existing_function_id=self.function_id
        )
        created = await self.deployer.functions.FunctionCreate(request, CLIENT)
        self.function_id = created.function_id
        return created.handle_metadata.definition_id

    async def publish(self, definition_id: str, *, staged: bool = False, version: str = "") -> float:
        published = await self.handlers.AppPublish(
            api_pb2.AppPublishRequest(
                app_id="ap-1",
                name="app",
                app_state=api_pb2.APP_STATE_DEPLOYED,
                function_ids={"f": self.function_id},
                definition_ids={self.function_id: definition_id},
                staged=staged,
            ),
            Caller(client_version=version),
        )
        return published.deployed_at

    async def back_to(self, number: int) -> None:
        await self.handlers.AppRollback(api_pb2.AppRollbackRequest(app_id="ap-1", version=number), CLIENT)

    @property
    def timeout(self) -> int:
        return self.machine.state.functions[self.function_id].definition.timeout_secs

    async def history(self) -> api_pb2.AppDeploymentHistoryResponse:
        return await self.handlers.AppDeploymentHistory(api_pb2.AppDeploymentHistoryRequest(app_id="ap-1"), CLIENT)


async def test_the_history_is_told_newest_first_with_what_each_line_is(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1, version="1.6.4")
        await app.deploy(2)
        await app.back_to(1)
        await app.deploy(3, staged=True)
        response = await app.history()
        assert response.production_app_version == 3
        assert [entry.version for entry in response.app_deployment_histories] == [4, 3, 2, 1]
        staged, back, _, first = response.app_deployment_histories
        assert (staged.deployment_type, back.deployment_type, first.deployment_type) == (
            api_pb2.DEPLOYMENT_TYPE_STAGED,
            api_pb2.DEPLOYMENT_TYPE_ROLLBACK,
            api_pb2.DEPLOYMENT_TYPE_STANDARD,
        )
        assert back.rollback_version == 1
        assert first.client_version == "1.6.4"
        assert app.timeout == 1


async def test_going_back_without_a_number_passes_over_staged_versions(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1)
        await app.deploy(2, staged=True)
        await app.deploy(3)
        assert app.timeout == 3
        await app.back_to(-1)
        assert app.timeout == 1


async def test_a_rollback_takes_back_what_was_set_for_the_autoscaler_and_a_skipped_deploy_does_not(
    machine: FakeMachine,
) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1)
        record = machine.state.functions[app.function_id]
        record.overrides.max_containers = 7
        assert not await app.deploy(1), "skipped"
        assert record.overrides.max_containers == 7
        await app.deploy(2)
        await app.back_to(1)
        assert not machine.state.functions[app.function_id].overrides.max_containers


async def test_the_oldest_versions_give_way_which_is_said_and_the_one_in_force_stays(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing_module, "VERSIONS_KEPT", 2)
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        for timeout in (1, 2, 3):
            await app.deploy(timeout)
        with pytest.raises(GRPCError, match="v1 is not kept any more"):
            await app.back_to(1)
        await app.back_to(2)
        allowed = {entry.version: entry.rollback_allowed for entry in (await app.history()).app_deployment_histories}
        assert allowed == {4: True, 3: True, 2: False, 1: False}
        for timeout in (5, 6, 7):
            await app.deploy(timeout, staged=True)
        assert not await app.deploy(2), "the version in force is still known"


async def test_of_two_deploys_at_once_each_publishes_what_it_has_made(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1)
        mine, yours = await app.create(2), await app.create(3)
        await app.publish(mine)
        assert app.timeout == 2
        await app.publish(yours)
        assert app.timeout == 3


async def test_a_deploy_that_many_others_have_overtaken_is_told_to_begin_again(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing_module, "STAGINGS_KEPT", 2)
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1)
        mine = await app.create(2)
        for timeout in (3, 4):
            await app.create(timeout)
        with pytest.raises(GRPCError, match="deploy again"):
            await app.publish(mine)
        assert app.timeout == 1


async def test_a_second_deploy_of_the_same_name_at_once_is_refused_rather_than_hidden(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        await Redeployer(machine, deployer).deploy(1)
        other = await deployer.apps.AppCreate(api_pb2.AppCreateRequest(description="app"), CLIENT)
        request = api_pb2.AppPublishRequest(app_id=other.app_id, name="app", app_state=api_pb2.APP_STATE_DEPLOYED)
        with pytest.raises(GRPCError, match="deployed meanwhile") as refused:
            await deployer.deployments.AppPublish(request, CLIENT)
        assert refused.value.status is Status.ALREADY_EXISTS


async def test_nothing_is_published_into_an_app_that_has_stopped(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        await app.deploy(1)
        await deployer.apps.AppStop(api_pb2.AppStopRequest(app_id="ap-1"), CLIENT)
        for refused in (app.deploy(2), app.back_to(1)):
            with pytest.raises(GRPCError) as raised:
                await refused
            assert raised.value.status is Status.FAILED_PRECONDITION


@pytest.mark.parametrize("state", [api_pb2.APP_STATE_DEPLOYED, api_pb2.APP_STATE_UNSPECIFIED])
async def test_what_a_deploy_or_a_reload_starts_is_younger_than_it(
    machine: FakeMachine, state: api_pb2.AppState.ValueType, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deploying(machine) as deployer:
        app = Redeployer(machine, deployer)
        definition_id = await app.create(1)
        put_in_force = Publisher.put_in_force

        async def slowly(publisher: Publisher, *what: Any) -> None:
            await machine.clock.turn(1)
            await put_in_force(publisher, *what)

        monkeypatch.setattr(Publisher, "put_in_force", slowly)
        request = api_pb2.AppPublishRequest(
            app_id="ap-1", name="app", app_state=state, function_ids={"f": app.function_id}
        )
        request.definition_ids[app.function_id] = definition_id
        began = machine.clock.time()
        assert (await app.handlers.AppPublish(request, CLIENT)).deployed_at == began


# Apps whose client is gone


async def running_app(deployer: Deployer, state: api_pb2.AppState.ValueType) -> App:
    created = await deployer.apps.AppCreate(api_pb2.AppCreateRequest(app_state=state, description="run"), CLIENT)
    return deployer.state.apps[created.app_id]


def last_words(app: App) -> str:
    return app.log.batches[-1].items[-1].data


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (api_pb2.APP_DISCONNECT_REASON_ENTRYPOINT_COMPLETED, "local entrypoint completed."),
        (api_pb2.APP_DISCONNECT_REASON_KEYBOARD_INTERRUPT, "keyboard interrupt received."),
        (api_pb2.APP_DISCONNECT_REASON_LOCAL_EXCEPTION, "uncaught exception raised locally: Oh()."),
        (api_pb2.APP_DISCONNECT_REASON_REMOTE_EXCEPTION, "uncaught exception raised in remote container: Oh()."),
    ],
)
async def test_the_log_says_why_its_app_was_stopped(
    machine: FakeMachine, reason: api_pb2.AppDisconnectReason.ValueType, words: str
) -> None:
    async with deploying(machine) as deployer:
        app = await running_app(deployer, api_pb2.APP_STATE_EPHEMERAL)
        said = "Oh()" if "exception" in words else ""
        request = api_pb2.AppClientDisconnectRequest(app_id=app.app_id, reason=reason, exception=said)
        await deployer.apps.AppClientDisconnect(request, CLIENT)
        assert last_words(app) == f"Stopping app - {words}\n"
        assert app.log.done


async def test_an_app_whose_client_falls_silent_stops_and_a_detached_one_only_when_it_has_no_more_to_do(
    machine: FakeMachine,
) -> None:
    async with deploying(machine) as deployer:
        pool = machine.deploy()
        call, item = machine.call()
        await settle()
        (container,) = machine.started
        assert await taken(pool, container) is item
        machine.app.state = api_pb2.APP_STATE_DETACHED
        machine.app.last_heartbeat = machine.clock.monotonic()
        plain = await running_app(deployer, api_pb2.APP_STATE_EPHEMERAL)
        watching = asyncio.create_task(deployer.apps.watch_heartbeats())
        await machine.clock.turn(2 * HEARTBEAT_TIMEOUT)
        assert not plain.live
        assert last_words(plain).startswith("Stopping app - local client disconnected. Use `modal run --detach`")
        assert machine.app.state == api_pb2.APP_STATE_DETACHED_DISCONNECTED
        pool.work.complete(pool.slots[container.task_id], succeeded(item))
        await machine.clock.turn(20)
        container.end()
        await machine.clock.turn(20)
        watching.cancel()
        await deployer.apps.close()
        assert call.outputs[0].result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
        assert machine.app.state == api_pb2.APP_STATE_STOPPED
