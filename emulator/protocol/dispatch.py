"""Modal's gRPC service, assembled from handler objects: a public method named like an RPC answers that RPC.

A handler method takes (request, caller). For a unary RPC it is a coroutine that returns the response; for one that
streams, an async generator of responses, or of lists of them, which leave together; for one whose client streams, a
coroutine whose request is an async iterable of requests. Errors are raised as `grpclib.GRPCError`. A unary answer that
hands something over is a `Handover`, so that it can be taken back.
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from google.protobuf.message_factory import GetMessageClass
from grpclib import GRPCError, Status
from grpclib.const import Cardinality
from grpclib.const import Handler as Route
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_pb2

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
    from google.protobuf.message import Message
    from grpclib.server import Stream

SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]

NOT_ADMITTED = (
    "Token validation failed: this emulator takes only its own token, "
    "which `emulator env` prints beside a running `emulator up`, and which is new for every emulator"
)

MEANT = {
    "ContainerFilesystemExec": "files of a Sandbox by `open`, `ls` and their like: `Sandbox.filesystem` is there",
    "SandboxCreateConnectTokenV2": "tokens for HTTP to a Sandbox: its tunnels are there",
    "SandboxContainerCreateV2": "sidecars",
    "PersistentSandboxCreate": "persistent Sandboxes",
}
"""What an RPC is for, where its name does not say it."""

Method = Callable[[Any, "Caller"], Any]


@dataclass(frozen=True)
class Caller:
    """Who calls: a container (known by the socket that the call came through) or a client outside."""

    task_id: str = ""
    client_version: str = ""
    """Of a client outside, as it says itself."""
    authorization: str = field(default="", repr=False)
    """The header of that name."""


@dataclass(frozen=True)
class Handover:
    """A unary answer, and what takes back what it hands over where it could not be sent."""

    response: Message
    take_back: Callable[[], None]


@dataclass(frozen=True)
class Token:
    """What a client has to send with every call. Whoever may call can run code as the user whose emulator it is."""

    token_id: str
    secret: str = field(repr=False)

    def admits(self, metadata: Mapping[str, Any]) -> bool:
        sent = (str(metadata.get(f"x-modal-token-{part}", "")).encode() for part in ("id", "secret"))
        wanted = (self.token_id.encode(), self.secret.encode())
        return all(hmac.compare_digest(*pair) for pair in zip(sent, wanted, strict=True))


class Dispatcher:
    """Knows every RPC of one service of `modal_proto`; those without a handler answer UNIMPLEMENTED by name."""

    def __init__(
        self,
        handlers: Iterable[object],
        say: Callable[[str], None],
        keep: Callable[[str], None] | None = None,
        service: ServiceDescriptor = SERVICE,
    ) -> None:
        """`keep` is called with an RPC's name once it has been carried out: it is answered when that returns, and fails
        with its `OSError`."""
        self._keep = keep or (lambda _rpc: None)
        self._service = service
        self._methods: dict[str, Method] = {}
        self._say = say
        self._missing: set[str] = set()
        for handler in handlers:
            for name in service.methods_by_name:
                if (method := getattr(handler, name, None)) is not None:
                    if name in self._methods:
                        raise ValueError(f"two handlers answer {name}")
                    self._methods[name] = method

    @property
    def implemented(self) -> frozenset[str]:
        """Names of the RPCs that have a handler."""
        return frozenset(self._methods)

    def servable(self, caller: Caller, token: Token | None = None) -> Servable:
        """What a grpclib server needs in order to serve this caller, or with `token` only those who send it."""
        rpcs = self._service.methods_by_name

        def route(path: str) -> Route:
            service, _, name = path.removeprefix("/").rpartition("/")
            if service != self._service.full_name or name not in rpcs:
                raise KeyError(path)
            return self._route(rpcs[name], caller, token)

        return Servable(Routes(route))

    def _route(self, rpc: MethodDescriptor, caller: Caller, token: Token | None) -> Route:
        method = self._methods.get(rpc.name)
        if method is None:
            serve = self._unimplemented(rpc.name)
        elif rpc.client_streaming:
            serve = _collecting(method, caller)
        elif rpc.server_streaming:
            serve = _streaming(method, caller)
        else:
            serve = _unary(method, caller, partial(self._keep, rpc.name))
        if token is not None:
            serve = _guarded(serve, token)
        cardinality = Cardinality.UNARY_UNARY
        if rpc.client_streaming or rpc.server_streaming:
            cardinality = Cardinality.STREAM_UNARY if rpc.client_streaming else Cardinality.UNARY_STREAM
        return Route(serve, cardinality, GetMessageClass(rpc.input_type), GetMessageClass(rpc.output_type))

    def _unimplemented(self, name: str) -> Serve:
        async def serve(stream: Stream[Any, Any]) -> None:
            await stream.recv_message()
            if name not in self._missing:
                self._missing.add(name)
                self._say(f"the client called {name}, which this emulator does not implement")
            told = f" ({MEANT[name]})" if name in MEANT else ""
            raise GRPCError(Status.UNIMPLEMENTED, f"The emulator does not implement {name}{told}")

        return serve


class Routes(dict[str, Route]):
    """By path, each made when it is first called: a container, which has a server of its own, calls few of them."""

    def __init__(self, make: Callable[[str], Route]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, path: str) -> Route:
        route = self[path] = self._make(path)
        return route

    def get(self, path: str, default: Any = None) -> Any:
        try:
            return self[path]
        except KeyError:
            return default


class Servable:
    """The mapping of paths to routes, as grpclib wants it."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def __mapping__(self) -> Routes:
        return self._routes


Serve = Callable[["Stream[Any, Any]"], Awaitable[None]]


def _unary(method: Method, caller: Caller, keep: Callable[[], None]) -> Serve:
    async def serve(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        try:
            answer = await cast("Awaitable[Message | Handover]", method(request, _who(stream, caller)))
        except OSError as error:
            raise _no_disk(error) from error
        try:
            try:
                keep()
            except OSError as error:
                raise _no_disk(error) from error
            await stream.send_message(answer.response if isinstance(answer, Handover) else answer)
        except BaseException:
            if isinstance(answer, Handover):
                answer.take_back()
            raise

    return serve


def _no_disk(error: OSError) -> GRPCError:
    return GRPCError(Status.RESOURCE_EXHAUSTED, f"The emulator can not use its disk: {error}")


def _who(stream: Stream[Any, Any], caller: Caller) -> Caller:
    """A client outside with what it says of itself."""
    if caller.task_id:
        return caller
    sent: Mapping[str, Any] = stream.metadata or {}
    return Caller(
        client_version=str(sent.get("x-modal-client-version", "")), authorization=str(sent.get("authorization", ""))
    )


def _collecting(method: Method, caller: Caller) -> Serve:
    """An RPC whose client sends messages one by one, for one answer."""

    async def serve(stream: Stream[Any, Any]) -> None:
        response = await cast("Awaitable[Message]", method(stream, _who(stream, caller)))
        await stream.send_message(response)

    return serve


def _streaming(method: Method, caller: Caller) -> Serve:
    async def serve(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        await stream.send_initial_metadata()
        responses = cast("AsyncIterator[Message]", method(request, _who(stream, caller)))
        try:
            async for response in responses:
                if isinstance(response, list):
                    await _send_together(stream, response)
                else:
                    await stream.send_message(response)
        finally:
            await responses.aclose()  # type: ignore[attr-defined]

    return serve


def _guarded(serve: Serve, token: Token) -> Serve:
    async def guarded(stream: Stream[Any, Any]) -> None:
        if not token.admits(stream.metadata or {}):
            raise GRPCError(Status.UNAUTHENTICATED, NOT_ADMITTED)
        await serve(stream)

    return guarded


async def _send_together(stream: Stream[Any, Any], messages: Sequence[Message]) -> None:
    """Several messages as one piece of data: what each costs beyond its bytes is paid once."""
    frames = []
    for message in messages:
        body = message.SerializeToString()
        frames += [b"\0", len(body).to_bytes(4, "big"), body]  # not compressed, its length, itself
    await stream._stream.send_data(b"".join(frames))


class StatusDetails(StatusDetailsCodecBase):
    """Error details in Modal's own envelope."""

    def encode(self, status: Status, message: str | None, details: Sequence[Message] | None) -> bytes:
        envelope = api_pb2.RPCStatus(code=status.value, message=message or "")
        for detail in details or ():
            envelope.details.add().Pack(detail, type_url_prefix="type.modal.com/")
        return envelope.SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:  # noqa: ARG002
        return list(api_pb2.RPCStatus.FromString(data).details)


def not_found(message: str) -> GRPCError:
    return GRPCError(Status.NOT_FOUND, message)


def invalid(message: str) -> GRPCError:
    return GRPCError(Status.INVALID_ARGUMENT, message)


def exists(message: str) -> GRPCError:
    return GRPCError(Status.ALREADY_EXISTS, message)


def too_large(what: str) -> GRPCError:
    """What the client takes for HTTP's 413, with which Modal's front refuses requests. Not a status that it retries."""
    return GRPCError(Status.OUT_OF_RANGE, f"Received :status = '413': {what}")


def unimplemented(what: str) -> GRPCError:
    return GRPCError(Status.UNIMPLEMENTED, f"The emulator does not implement {what}")


def failed_precondition(message: str) -> GRPCError:
    return GRPCError(Status.FAILED_PRECONDITION, message)
