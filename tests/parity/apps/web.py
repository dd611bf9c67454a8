"""Web functions of every kind."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import modal

image = modal.Image.debian_slim().pip_install("fastapi")
app = modal.App("web", image=image)

PIECE = 1 << 16


@app.function(max_containers=1)
@modal.fastapi_endpoint(docs=True)
def square(x: int) -> dict[str, int]:
    """The square of a number."""
    return {"square": x * x}


@app.function(max_containers=1)
@modal.fastapi_endpoint(method="POST", requires_proxy_auth=True)
def private(body: dict[str, str]) -> dict[str, str]:
    return {key: value.upper() for key, value in body.items()}


@app.function(max_containers=1, timeout=60)
@modal.concurrent(max_inputs=50)
@modal.asgi_app()
def site():
    from fastapi import FastAPI, Request, Response, WebSocket, WebSocketDisconnect
    from fastapi.responses import PlainTextResponse, StreamingResponse

    left: list[str] = []
    sent: dict[str, int] = {}

    @asynccontextmanager
    async def lifespan(site):
        site.state.begun = os.getpid()
        yield {"shared": []}

    site = FastAPI(lifespan=lifespan)

    @site.get("/state")
    async def state(request: Request):
        request.state.shared.append(1)
        return {"begun": request.app.state.begun == os.getpid(), "shared": len(request.state.shared)}

    @site.api_route("/seen", methods=["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
    async def seen(request: Request):
        scope = request.scope
        told = {
            "method": scope["method"],
            "path": scope["path"],
            "root_path": scope["root_path"],
            "query": scope["query_string"].decode(),
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "size": len(await request.body()),
        }
        response = Response(__import__("json").dumps(told), media_type="application/json")
        response.headers.append("X-Twice", "one")
        response.headers.append("X-Twice", "two")
        return response

    async def pieces(scope, receive, send):
        """Each piece of the request, as soon as it is there: Starlette's own responses would read from it too."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        more = True
        while more:
            message = await receive()
            more = message.get("more_body", False)
            await send({"type": "http.response.body", "body": message["body"], "more_body": more})

    site.mount("/pieces", pieces)

    @site.post("/size")
    async def size(request: Request):
        total = 0
        async for piece in request.stream():
            total += len(piece)
        return {"size": total}

    @site.get("/flood/{name}")
    async def flood(name: str, pieces: int):
        async def chunks():
            for number in range(pieces):
                sent[name] = number
                yield bytes(PIECE)

        return StreamingResponse(chunks())

    @site.get("/flooded/{name}")
    async def flooded(name: str):
        return sent.get(name, 0)

    @site.get("/ticks/{name}")
    async def ticks(name: str):
        async def chunks():
            try:
                while True:
                    yield b"tick "
                    await asyncio.sleep(0.05)
            finally:
                left.append(name)

        return StreamingResponse(chunks())

    @site.get("/left")
    async def who_left():
        return left

    @site.get("/fails")
    async def fails():
        raise ValueError("on purpose")

    @site.get("/breaks-off")
    async def breaks_off():
        async def chunks():
            yield b"so far"
            await asyncio.sleep(0.05)
            raise ValueError("in the middle")

        return StreamingResponse(chunks())

    @site.get("/slow")
    async def slow(seconds: float):
        await asyncio.sleep(seconds)
        return PlainTextResponse("late")

    @site.post("/slow")
    async def slow_post(seconds: float, request: Request):
        body = await request.body()
        await asyncio.sleep(seconds)
        return PlainTextResponse(f"late {body.decode()}")

    @site.websocket("/echo")
    async def echo(socket: WebSocket):
        offered = socket.scope["subprotocols"]
        await socket.accept(subprotocol=offered[-1] if offered else None)
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    left.append(f"socket {message['code']}")
                    return
                if message.get("text") == "close":
                    await socket.close(4321, "as you wish")
                    return
                if message.get("text") == "fail":
                    raise ValueError("on purpose")
                if message.get("text") is not None:
                    await socket.send_text(message["text"])
                else:
                    await socket.send_bytes(message["bytes"])
        except WebSocketDisconnect:
            pass

    @site.websocket("/refused")
    async def refused(socket: WebSocket):
        await socket.close(1008)

    return site


@app.function(max_containers=1)
@modal.wsgi_app()
def plain():
    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("202 Accepted", [("Content-Type", "text/plain"), ("X-Method", environ["REQUEST_METHOD"])])
        return [environ["PATH_INFO"].encode(), b"?", environ["QUERY_STRING"].encode(), b" ", body]

    return application


SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(1)
        self.send_response(200)
        self.send_header("X-Forwarded", self.headers.get("X-Forwarded-For", ""))
        self.end_headers()
        self.wfile.write(f"{os.environ['MODAL_TASK_ID']} {self.path}".encode())
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(len(body)).encode())
http.server.ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


@app.function(max_containers=1)
@modal.concurrent(max_inputs=10)
@modal.web_server(8123, startup_timeout=20)
def served():
    subprocess.Popen([sys.executable, "-c", SERVER, "8123"])


@app.function(max_containers=1)
@modal.web_server(8124, startup_timeout=0.5)
def never_up():
    pass


@app.cls(max_containers=1)
@modal.concurrent(max_inputs=10)
class Pages:
    @modal.enter()
    def open(self):
        self.greeting = "hello"

    @modal.fastapi_endpoint()
    def greet(self, name: str) -> str:
        return f"{self.greeting} {name}"

    @modal.asgi_app()
    def pages(self):
        from fastapi import FastAPI

        pages = FastAPI()
        pages.get("/")(lambda: f"{self.greeting} pages")
        return pages


@app.function(timeout=1, startup_timeout=30, max_containers=1)
@modal.fastapi_endpoint()
def too_slow() -> str:
    time.sleep(30)
    return "never"


@app.function(max_containers=1)
@modal.fastapi_endpoint()
def kills_itself() -> str:
    os.kill(os.getpid(), 9)
    return "never"
