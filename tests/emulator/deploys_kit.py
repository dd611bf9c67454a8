"""A deploying client, request by request, before handlers and a real ingress; its containers are not there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.front import IngressFront
from emulator.ingress.ingress import Ingress
from emulator.protocol.apps import AppHandlers
from emulator.protocol.binding import Binder
from emulator.protocol.deployments import DeploymentHandlers
from emulator.protocol.dispatch import Caller
from emulator.protocol.environments import EnvironmentHandlers
from emulator.protocol.functions import FunctionHandlers
from emulator.protocol.publishing import Publisher
from tests.emulator.ingress_kit import Allowed
from tests.emulator.sandboxes_kit import no_sandboxes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.emulator.heart_kit import FakeMachine

CLIENT = Caller()


class Deployer:
    """What the client does, request by request."""

    def __init__(self, machine: FakeMachine, ingress: Ingress) -> None:
        self.state = machine.state
        EnvironmentHandlers(machine.state, machine.clock)
        binder = Binder(machine.state, machine.scheduler, machine.said.append)
        self.front = IngressFront(
            ingress,
            calls=machine.calls,
            scheduler=machine.scheduler,
            read_blob=lambda _: b"",
            bind=binder.for_request,
        )
        publisher = Publisher(machine.state, machine.scheduler, self.front)
        self.apps = AppHandlers(
            machine.state,
            machine.clock,
            machine.scheduler,
            no_sandboxes(machine.clock),
            self.front,
            publisher,
            "http://pages/{}".format,
            machine.said.append,
        )
        self.deployments = DeploymentHandlers(machine.state, machine.clock, publisher, "http://pages/{}".format)
        self.functions = FunctionHandlers(machine.state, machine.scheduler, self.front, binder, machine.said.append)

    async def create(self, tag: str, *, existing: str = "", auth: bool = False) -> api_pb2.FunctionCreateResponse:
        webhook = api_pb2.WebhookConfig(type=api_pb2.WEBHOOK_TYPE_ASGI_APP, requires_proxy_auth=auth)
        definition = api_pb2.Function(function_name=tag, webhook_config=webhook)
        request = api_pb2.FunctionCreateRequest(app_id="ap-1", function=definition, existing_function_id=existing)
        return await self.functions.FunctionCreate(request, CLIENT)

    async def publish(self, **function_ids: str) -> None:
        await self.deployments.AppPublish(
            api_pb2.AppPublishRequest(
                app_id="ap-1", name="app", app_state=api_pb2.APP_STATE_DEPLOYED, function_ids=function_ids
            ),
            CLIENT,
        )

    async def give_up(self) -> None:
        reason = api_pb2.APP_DISCONNECT_REASON_DEPLOYMENT_EXCEPTION
        await self.apps.AppClientDisconnect(api_pb2.AppClientDisconnectRequest(app_id="ap-1", reason=reason), CLIENT)


@asynccontextmanager
async def deploying(machine: FakeMachine) -> AsyncIterator[Deployer]:
    ingress = Ingress(clock=machine.clock, authorize=Allowed())
    await ingress.start()
    try:
        yield Deployer(machine, ingress)
    finally:
        await ingress.close()
