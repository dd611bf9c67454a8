"""The scripted engine's HTTP server: the routes of SGLang that a relay uses, and the counts that tests read."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from functions.engines.base import PROBE_RID
from functions.engines.script import Script, ScriptError, flat_error
from functions.engines.scripted_answer import Answer, Record
from functions.engines.scripted_words import PrefixCache, Vocabulary, detokenize, embeddings, tokenize

if TYPE_CHECKING:
    from types import TracebackType

    from functions.engines.script import Json

REMEMBERED = 512
"""How many ended requests the state tells of."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is set per engine. `deaf_to_close`: a closed connection ends nothing, only an abort does.
    `prefix_cache`: usage tells how much of a prompt is known from earlier ones, as real engines do."""

    model_name: str = "scripted"
    script: Script = field(default_factory=Script)
    max_running: int | None = None
    deaf_to_close: bool = False
    deaf_to_wake: bool = False
    prefix_cache: bool = False
    api_key: str | None = None


class ScriptedServer:
    """`start` and `stop` it inside an event loop, or use it as an async context manager on a free port."""

    def __init__(self, options: Options | None = None, *, crash: Callable[[], object] | None = None) -> None:
        """`crash`: what `crash_after` does; by default the listening socket and every connection are cut."""
        self.options = options or Options()
        self.port = 0
        self._id = secrets.token_hex(8)
        self._crash = crash
        self._asleep = False
        self._moves: deque[str] = deque(maxlen=REMEMBERED)
        self._running: dict[str, tuple[Record, asyncio.Task[Any]]] = {}
        self._ended: deque[Record] = deque(maxlen=REMEMBERED)
        self._vocabulary = Vocabulary()
        self._prefixes = PrefixCache() if self.options.prefix_cache else None
        self._plain: deque[Json] = deque(maxlen=REMEMBERED)
        self._counts = {"started": 0, "finished": 0, "aborted": 0, "failed": 0, "refused": 0}
        self._tokens = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the port is taken."""
        app = web.Application(client_max_size=64 * 1024 * 1024, middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/chat/completions", self._generate)
        app.router.add_post("/v1/completions", self._generate)
        app.router.add_post("/v1/embeddings", self._words)
        app.router.add_post("/tokenize", self._words)
        app.router.add_post("/detokenize", self._words)
        app.router.add_post("/abort_request", self._abort)
        app.router.add_post("/release_memory_occupation", self._sleep)
        app.router.add_post("/resume_memory_occupation", self._wake)
        app.router.add_get("/scripted/state", self._state)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _metrics(self, _: web.Request) -> web.Response:
        """Some of SGLang's."""
        told = {
            "num_running_reqs": ("gauge", len(self._running)),
            "num_requests_total": ("counter", self._counts["finished"]),
            "num_aborted_requests_total": ("counter", self._counts["aborted"]),
            "generation_tokens_total": ("counter", self._tokens),
        }
        labels = f'{{model_name="{self.options.model_name}"}}'
        lines = [f"# TYPE sglang:{name} {kind}\nsglang:{name}{labels} {value}" for name, (kind, value) in told.items()]
        return web.Response(text="\n".join(lines) + "\n")

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def state(self) -> Json:
        """What `GET /scripted/state` answers: `engine` (random), `active`, the counts, and the latest requests, oldest
        first; `plain`: the bodies of those that generate nothing, with their `path`; `moves`: `probe`, `sleep` and
        `wake` in the order in which it was asked for them."""
        running = [record for record, _ in self._running.values()]
        requests = [asdict(record) for record in (*self._ended, *running)]
        return {
            "engine": self._id,
            "active": len(running),
            **self._counts,
            "requests": requests,
            "plain": list(self._plain),
            "moves": list(self._moves),
        }

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        key = self.options.api_key
        if key and request.path.startswith("/v1/"):
            given = request.headers.get("Authorization", "")
            if not secrets.compare_digest(given.encode(), f"Bearer {key}".encode()):
                return web.json_response({"error": "Unauthorized"}, status=401)
        return await handler(request)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(status=503 if self._asleep else 200)

    async def _models(self, _request: web.Request) -> web.Response:
        model = {"id": self.options.model_name, "object": "model", "created": 0, "owned_by": "scripted"}
        return web.json_response({"object": "list", "data": [model]})

    async def _state(self, _request: web.Request) -> web.Response:
        return web.json_response(self.state())

    async def _sleep(self, _request: web.Request) -> web.Response:
        self._moves.append("sleep")
        self._asleep = True
        return web.Response()

    async def _wake(self, _request: web.Request) -> web.Response:
        self._moves.append("wake")
        if self.options.deaf_to_wake:
            return _refusal(500, "The memory is gone.")
        self._asleep = False
        return web.Response()

    async def _abort(self, request: web.Request) -> web.Response:
        body = await request.json()
        rid, every = body.get("rid", ""), bool(body.get("abort_all"))
        for record, task in list(self._running.values()):
            if every or record.rid == rid:
                if record.reason is None:
                    record.reason = "abort_request"
                    task.cancel()
                self._note_abort(record, request)
        for record in self._ended:
            if record.rid == rid and record.abort is None:
                self._note_abort(record, request)
        return web.Response()

    @staticmethod
    def _note_abort(record: Record, request: web.Request) -> None:
        record.abort = record.abort or time.time()
        record.abort_session = request.headers.get("Modal-Session-ID")

    async def _words(self, request: web.Request) -> web.Response:
        body = await request.json()
        self._plain.append({"path": request.path, **body})
        if self._asleep:
            return _refusal(503, "The server is asleep.")
        if request.path == "/v1/embeddings":
            return embeddings(body)
        return (tokenize if request.path == "/tokenize" else detokenize)(body, self._vocabulary)

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
            script = self.options.script.with_changes(body.get("x_scripted"))
        except (ScriptError, ValueError) as error:
            return _refusal(400, str(error))
        full = self.options.max_running is not None and len(self._running) >= self.options.max_running
        if self._asleep or full:
            self._counts["refused"] += 1
            return _refusal(503, "The server is asleep." if self._asleep else "The request queue is full.")
        record = Record(
            rid=str(body.get("rid") or secrets.token_hex(16)), session=request.headers.get("Modal-Session-ID"),
            headers=[name.lower() for name in request.headers], body=body, started=time.time(),
        )  # fmt: skip
        if request.transport is not None:
            record.port = request.transport.get_extra_info("peername")[1]
        answer = Answer(request, script=script, record=record, crash=self.crash, prefixes=self._prefixes)
        if record.rid.startswith(PROBE_RID):  # of whoever watches the engine: no request that anybody counts
            self._moves.append("probe")
            return await answer.run()
        if record.rid in self._running:
            return _refusal(400, f"Duplicate request ID detected: {record.rid}")
        work = asyncio.create_task(answer.run())
        self._counts["started"] += 1
        self._running[record.rid] = (record, work)
        work.add_done_callback(lambda task: self._end(record, task))
        return await self._while_there(record, work)

    async def _while_there(self, record: Record, work: asyncio.Task[web.StreamResponse]) -> web.StreamResponse:
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled() and record.reason == "abort_request":
                return _refusal(400, "The request was aborted.")
            if record.reason is None and not self.options.deaf_to_close:
                record.reason = "closed"
                work.cancel()
            if record.reason != "abort_request":
                record.closed = time.time()
            raise

    def _end(self, record: Record, task: asyncio.Task[Any]) -> None:
        record.ended = time.time()
        if record.outcome == "running":
            record.outcome = "aborted" if task.cancelled() or record.reason else "failed"
        if not task.cancelled():
            task.exception()
        self._counts[record.outcome] += 1
        self._tokens += record.tokens
        del self._running[record.rid]
        self._ended.append(record)

    async def crash(self) -> None:
        """End as a crash would: the process, or here every connection and the listening socket, with no goodbye."""
        if self._crash is not None:
            self._crash()
        runner, self._runner = self._runner, None
        if runner is None or runner.server is None:
            return
        for site in list(runner.sites):
            await site.stop()
        for connection in list(runner.server.connections):
            if connection.transport is not None:
                connection.transport.abort()


def _refusal(status: int, message: str) -> web.Response:
    return web.json_response(flat_error(status=status, message=message), status=status)
