"""A proxy on a loopback socket between boto3 and whatever serves S3 and DynamoDB: where calls meet their faults."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from aiohttp import web

from emulator.faults.aws import asked, refusal
from emulator.faults.plans import AwsFault
from tests.chaos.faults import CANCELED, CARRIED_OUT, NETWORK, Call, Fault, Hold
from tests.chaos.upstreams import Answer, Plain, Request, Transacting, canceled

if TYPE_CHECKING:
    from collections.abc import Coroutine

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect", "content-length"})


class FaultProxy:
    """`s3`, `dynamodb`: addresses (`http://127.0.0.1:…`). `transacts`: whether that DynamoDB has transactions itself;
    else they are made here (see `Transacting`). Use as a context manager; everything may be called by any thread."""

    def __init__(self, *, s3: str, dynamodb: str, transacts: bool = True) -> None:
        self._addresses = {"s3": s3, "dynamodb": dynamodb}
        self._transacts = transacts
        self._faults: list[Fault] = []
        self._holds: list[Hold] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self.calls: list[Call] = []
        """All that came, oldest first, each try of its own."""
        self.url = ""

    def plan(self, how: str, operation: str = "", **more: Any) -> Fault:
        """See `Fault`."""
        fault = Fault(how=how, operation=operation, **more)
        self._faults.append(fault)
        return fault

    def hold(self, operation: str, **more: Any) -> Hold:
        """See `Hold`."""
        hold = Hold(loop=self._loop, operation=operation, **more)
        self._holds.append(hold)
        return hold

    def clear(self) -> None:
        """No fault strikes any more, nothing is held up, and what was called is forgotten."""
        for hold in self._holds:
            hold.let_go()
        self._holds = []
        self._faults = []
        self.calls.clear()

    def operations(self, service: str = "dynamodb") -> list[str]:
        return [call.operation for call in self.calls if call.service == service]

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self) -> None:
        self._http = aiohttp.ClientSession(auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60))
        plain = Plain(self._http, self._addresses["dynamodb"])
        self._upstreams = {
            "s3": Plain(self._http, self._addresses["s3"]),
            "dynamodb": plain if self._transacts else Transacting(plain),
        }
        application = web.Application(client_max_size=2**30)
        application.router.add_route("*", "/{anything:.*}", self._serve)
        self._runner = web.AppRunner(application, auto_decompress=False, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        told = Request(request.method, request.raw_path, _passed_on(request.headers), await request.read())
        service, operation = asked(_environ(told))
        call = Call(service, operation, request.path, told.body)
        self.calls.append(call)
        if await self._held(call, after=False):
            return _broken(request)
        fault = next((fault for fault in list(self._faults) if fault.strikes(call)), None)
        how = fault.how if fault is not None else ""
        if how and how not in NETWORK:
            assert fault is not None
            return _response(_refused(service, how, head=told.method == "HEAD"))
        if how in ("reset", "silent"):
            return await _unanswered(request, waits=how == "silent")
        answer = await self._upstreams[service].send(told, operation)
        if await self._held(call, after=True):
            return _broken(request)
        if how == "cut":
            return await _cut(request, answer)
        if how in CARRIED_OUT:
            return await _unanswered(request, waits=how == "late")
        return _response(answer)

    async def _held(self, call: Call, *, after: bool) -> bool:
        """Whether it was held up there and is not to go on."""
        for hold in list(self._holds):
            await hold.here(call, after=after)
            if hold.dropped and hold.after == after:
                self._holds.remove(hold)
                return True
        return False


def _refused(service: str, code: str, *, head: bool) -> Answer:
    if code in CANCELED:
        return canceled([{"Code": CANCELED[code]}, {"Code": "None"}])
    fault = AwsFault(service="s3" if service == "s3" else "dynamodb", code=code)
    status, headers, body = refusal(fault, head=head)
    return Answer(int(status.split()[0]), dict(headers), body)


def _response(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, headers=_passed_on(answer.headers), body=answer.body)


async def _unanswered(request: web.Request, *, waits: bool) -> web.StreamResponse:
    while waits and request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return _broken(request)


async def _cut(request: web.Request, answer: Answer) -> web.StreamResponse:
    """Its head promises all of it."""
    begun = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
    begun.content_length = max(len(answer.body), 2)
    await begun.prepare(request)
    await begun.write(answer.body[: len(answer.body) // 2] or b"{")
    return _broken(request)


def _broken(request: web.Request) -> web.StreamResponse:
    """Reset the connection, as a peer does that has died."""
    if request.transport is not None:
        connection: socket.socket | None = request.transport.get_extra_info("socket")
        if connection is not None and request.transport.get_write_buffer_size() == 0:  # type: ignore[attr-defined]
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()  # type: ignore[attr-defined]
    return web.Response()


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _HOP_BY_HOP}


def _environ(request: Request) -> dict[str, Any]:
    """As `emulator.faults.aws.asked` reads a request."""
    path, _, query = request.path.partition("?")
    headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()}
    return {"REQUEST_METHOD": request.method, "PATH_INFO": path, "QUERY_STRING": query, **headers}
