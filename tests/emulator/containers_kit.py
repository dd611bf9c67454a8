"""What the container tests share: specs, user code on disk, and a control plane for one container.

The control plane is real gRPC on a unix socket, answered just as far as the client's container runtime asks.
"""

from __future__ import annotations

import asyncio
import pickle
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpclib
from grpclib.server import Server
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientBase

from emulator.containers.base import ContainerSpec, MountedFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from grpclib.server import Stream

WITHIN = 20
"""Seconds that anything in these tests may take on a busy machine."""


class Output:
    """Collects what containers write; `on_output` is what a runtime is given."""

    def __init__(self) -> None:
        self.text: dict[str, str] = {"stdout": "", "stderr": ""}
        self._changed = asyncio.Event()

    def on_output(self, task_id: str, stream: str, text: str) -> None:
        self.text[stream] += text
        self._changed.set()

    async def line(self, start: str) -> str:
        """The first whole line of stdout that starts so, without the start."""
        async with asyncio.timeout(WITHIN):
            while True:
                self._changed.clear()
                for line in self.text["stdout"].splitlines(keepends=True):
                    if line.startswith(start) and line.endswith("\n"):
                        return line[len(start) :].strip()
                await self._changed.wait()


def spec_of(folder: Path, code: str, *, task_id: str = "ta-1", **options: Any) -> ContainerSpec:
    """A container that sees `code` as `/root/user_code.py`."""
    source = folder / f"{task_id}-deployers-user_code.py"
    source.write_text(code)
    files = (MountedFile("/root/user_code.py", source), *options.pop("files", ()))
    defaults: dict[str, Any] = {
        "arguments": b"",
        "control_socket": folder / "control.sock",
        "environment": {},
        "image_id": "im-1",
    }
    return ContainerSpec(task_id=task_id, files=files, **{**defaults, **options})


@dataclass
class ControlPlane:
    """What one container asked, and what it will be given."""

    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    rpcs: list[str] = field(default_factory=list)
    first_rpc: asyncio.Event = field(default_factory=asyncio.Event)
    failures: list[api_pb2.GenericResult] = field(default_factory=list)

    async def answer(self, name: str, request: Any) -> Any:
        self.rpcs.append(name)
        self.first_rpc.set()
        if name == "FunctionGetInputs":
            return self._next_input()
        if name == "FunctionPutOutputs":
            self.outputs += [pickle.loads(output.result.data) for output in request.outputs]
        if name == "TaskResult":
            self.failures.append(request.result)
        return None

    def _next_input(self) -> api_pb2.FunctionGetInputsResponse:
        if not self.inputs:
            return api_pb2.FunctionGetInputsResponse(inputs=[api_pb2.FunctionGetInputsItem(kill_switch=True)])
        given = api_pb2.FunctionInput(
            args=pickle.dumps(((self.inputs.pop(0),), {})), data_format=api_pb2.DATA_FORMAT_PICKLE
        )
        item = api_pb2.FunctionGetInputsItem(input_id="in-1", function_call_id="fc-1", input=given)
        return api_pb2.FunctionGetInputsResponse(inputs=[item])


@asynccontextmanager
async def control_plane(socket: Path, inputs: list[Any]) -> AsyncIterator[ControlPlane]:
    """A control plane on a unix socket that hands out `inputs` one by one and then asks the container to leave."""
    plane = ControlPlane(list(inputs))
    server = Server([_service(plane)])
    await server.start(path=str(socket))
    try:
        yield plane
    finally:
        server.close()
        await server.wait_closed()


def _service(plane: ControlPlane) -> ModalClientBase:
    """All of Modal's service: an RPC whose answer is empty is answered so, every other one is handed to `plane`."""

    def handler(name: str) -> Any:
        async def handle(self: object, stream: Stream[Any, Any]) -> None:
            request = await stream.recv_message()
            response_type = types[name]
            answer = await plane.answer(name, request)
            if answer is None and name not in _ANSWERED:
                raise grpclib.GRPCError(grpclib.Status.UNIMPLEMENTED, name)
            await stream.send_message(answer if answer is not None else response_type())

        return handle

    names = sorted(ModalClientBase.__abstractmethods__)
    service: ModalClientBase = type("Service", (ModalClientBase,), {name: handler(name) for name in names})()
    types = {path.rpartition("/")[2]: rpc.reply_type for path, rpc in service.__mapping__().items()}
    return service


_ANSWERED = {"ContainerHello", "ContainerHeartbeat", "FunctionGetInputs", "FunctionPutOutputs", "TaskResult"}


def arguments_of(function: str, *, task_id: str = "ta-1", **options: Any) -> bytes:
    """`ContainerArguments` for a plain function of `user_code`."""
    definition = api_pb2.Function(
        module_name="user_code",
        function_name=function,
        definition_type=api_pb2.Function.DEFINITION_TYPE_FILE,
        function_type=api_pb2.Function.FUNCTION_TYPE_FUNCTION,
        supported_output_formats=[api_pb2.DATA_FORMAT_PICKLE],
        object_dependencies=[api_pb2.ObjectDependency(object_id="im-1")],
        **options,
    )
    layout = api_pb2.AppLayout(function_ids={function: "fu-1"})
    layout.objects.add(object_id="fu-1").function_handle_metadata.function_name = function
    layout.objects.add(object_id="im-1")
    return api_pb2.ContainerArguments(
        task_id=task_id,
        function_id="fu-1",
        app_id="ap-1",
        function_def=definition,
        app_layout=layout,
        environment_name="main",
    ).SerializeToString()


def machine(**variables: str) -> Mapping[str, str]:
    """A developer's environment, full of what no container may see."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/home/developer",
        "AWS_ACCESS_KEY_ID": "developers-own",
        "AWS_PROFILE": "production",
        "MODAL_TOKEN_ID": "ak-developers",
        "MODAL_TOKEN_SECRET": "as-developers",
        "MODAL_PROFILE": "work",
        "HF_TOKEN": "hf-developers",
        "PYTHONPATH": "/home/developer/project",
        **variables,
    }
