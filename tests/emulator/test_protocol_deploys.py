"""A deploy counts when it is published, and not before: handlers and a real ingress, containers that are not there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest
from grpclib import GRPCError
from modal_proto import api_pb2

import emulator.protocol.apps as apps_module
import emulator.state as state_module
from emulator.ingress.ingress import NOTHING_YET
from emulator.protocol.apps import HEARTBEAT_TIMEOUT
from tests.emulator.deploys_kit import CLIENT, deploying
from tests.emulator.heart_kit import FakeMachine, machine, settle

if TYPE_CHECKING:
    from emulator.state import App

__all__ = ["machine"]


async def reaches_a_container(machine: FakeMachine, url: str) -> bool:
    """Whether a request becomes an input. It gets no answer: nobody works on it."""
    before = len(machine.calls._calls)
    async with aiohttp.ClientSession() as client:
        asking = asyncio.create_task(client.get(url))
        while not asking.done() and len(machine.calls._calls) == before:
            await settle()
        answered = asking.done()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    return not answered


async def answer(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as client, client.get(url) as response:
        return response.status, await response.text()


async def test_a_redeploy_that_fails_changes_nothing_of_what_is_live(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        created = await deployer.create("page")
        url = created.handle_metadata.web_url
        await deployer.publish(page=created.function_id)
        again = await deployer.create("page", existing=created.function_id, auth=True)
        assert again.handle_metadata.web_url == url
        assert await reaches_a_container(machine, url)
        await deployer.give_up()
        assert await reaches_a_container(machine, url)
        assert not machine.state.functions[created.function_id].definition.webhook_config.requires_proxy_auth
        await deployer.publish(page=created.function_id)
        assert await reaches_a_container(machine, url)


async def test_a_redeploy_that_succeeds_changes_the_address_when_it_is_published(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        created = await deployer.create("page")
        url = created.handle_metadata.web_url
        await deployer.publish(page=created.function_id)
        await deployer.create("page", existing=created.function_id, auth=True)
        await deployer.publish(page=created.function_id)
        assert (await answer(url))[0] == 401


async def test_a_function_that_was_never_published_has_an_address_that_says_so_and_then_none(
    machine: FakeMachine,
) -> None:
    async with deploying(machine) as deployer:
        page = await deployer.create("page")
        await deployer.publish(page=page.function_id)
        extra = await deployer.create("extra")
        url = extra.handle_metadata.web_url
        assert await answer(url) == (503, f"{NOTHING_YET}\n")
        await deployer.give_up()
        assert extra.function_id not in machine.state.functions
        assert page.function_id in machine.state.functions
        try:
            await answer(url)
        except aiohttp.ClientConnectionError:
            pass
        else:
            raise AssertionError("its port still answers")


async def test_what_a_deploy_made_and_left_out_is_forgotten_with_the_next_publication(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        page, extra = await deployer.create("page"), await deployer.create("extra")
        await deployer.publish(page=page.function_id)
        await settle()
        assert list(machine.state.functions) == [page.function_id]
        assert deployer.front.ports() == [int(page.handle_metadata.web_url.rpartition(":")[2])]
        assert extra.function_id not in {record.function_id for record in machine.state.functions.values()}


async def test_an_address_that_a_redeploy_does_not_ask_for_any_more_is_closed(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        created = await deployer.create("page")
        await deployer.publish(page=created.function_id)
        plain = api_pb2.Function(function_name="page")
        await deployer.functions.FunctionCreate(
            api_pb2.FunctionCreateRequest(app_id="ap-1", function=plain, existing_function_id=created.function_id),
            CLIENT,
        )
        assert deployer.front.ports()
        await deployer.publish(page=created.function_id)
        assert not deployer.front.ports()


async def test_apps_whose_client_fell_silent_are_stopped_though_one_of_them_makes_trouble(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deploying(machine) as deployer:
        for state in (api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_EPHEMERAL, api_pb2.APP_STATE_INITIALIZING):
            await deployer.apps.AppCreate(api_pb2.AppCreateRequest(app_state=state), CLIENT)
        deployed, troubled, *others = machine.state.apps.values()
        stop = deployer.apps.stop

        async def troublesome(app: App, why: str) -> None:
            if app is troubled:
                raise RuntimeError("it holds on")
            await stop(app, why)

        monkeypatch.setattr(deployer.apps, "stop", troublesome)
        watching = asyncio.create_task(deployer.apps.watch_heartbeats())
        await machine.clock.turn(2 * HEARTBEAT_TIMEOUT)
        watching.cancel()
        assert [app.live for app in (deployed, troubled, *others)] == [True, True, False, False]
        assert any("it holds on" in line for line in machine.said)


async def test_an_app_in_an_environment_that_is_not_there_is_refused(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        with pytest.raises(GRPCError, match="nowhere"):
            await deployer.apps.AppCreate(api_pb2.AppCreateRequest(environment_name="nowhere"), CLIENT)
        missing = api_pb2.AppGetOrCreateRequest(
            app_name="x",
            environment_name="nowhere",
            object_creation_type=api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING,
        )
        with pytest.raises(GRPCError, match="nowhere"):
            await deployer.apps.AppGetOrCreate(missing, CLIENT)


async def test_what_has_no_effect_is_said_in_one_line_and_again_only_for_what_options_add(machine: FakeMachine) -> None:
    async with deploying(machine) as deployer:
        resources = api_pb2.Resources(memory_mb=512, gpu_config=api_pb2.GPUConfig(gpu_type="H100", count=1))
        definition = api_pb2.Function(function_name="f", resources=resources, experimental_options={"x": "1"})
        created = await deployer.functions.FunctionCreate(
            api_pb2.FunctionCreateRequest(app_id="ap-1", function=definition), CLIENT
        )
        (line,) = machine.said
        assert line == "f: its experimental options have no effect (x); no effect here: gpu, memory"
        await deployer.publish(f=created.function_id)
        for options in (
            api_pb2.FunctionOptions(timeout_secs=9),
            api_pb2.FunctionOptions(scheduler_placement=api_pb2.SchedulerPlacement(regions=["eu"])),
        ):
            await deployer.functions.FunctionBindParams(
                api_pb2.FunctionBindParamsRequest(function_id=created.function_id, function_options=options), CLIENT
            )
        (_, added) = machine.said
        assert added == "f with other options: no effect here: region"


async def test_the_last_stopped_apps_are_kept_and_those_before_are_forgotten(
    machine: FakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apps_module, "STOPPED_APPS_KEPT", 2)
    async with deploying(machine) as deployer:
        stopped = []
        for _ in range(4):
            created = await deployer.apps.AppCreate(api_pb2.AppCreateRequest(description="x"), CLIENT)
            await deployer.functions.ClassCreate(api_pb2.ClassCreateRequest(app_id=created.app_id), CLIENT)
            await deployer.apps.AppStop(api_pb2.AppStopRequest(app_id=created.app_id), CLIENT)
            stopped.append(created.app_id)
            await machine.clock.turn(1)
        assert list(machine.state.apps) == ["ap-1", *stopped[2:]]
        assert {record.app_id for record in machine.state.classes.values()} == set(stopped[2:])


def test_a_log_keeps_its_last_lines_up_to_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "LOG_BYTES_KEPT", 10_000)
    log = state_module.AppLog()
    for number in range(10):
        log.append(api_pb2.TaskLogsBatch(items=[api_pb2.TaskLogs(data=str(number) * 3000)]))
    assert [batch.items[0].data[0] for batch in log.after("")] == ["7", "8", "9"]
    assert [batch.entry_id for batch in log.after("8-0")] == ["9-0", "10-0"]
    assert log.size <= 10_000
