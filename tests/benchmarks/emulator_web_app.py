"""The app of `emulator_web.py`: one streaming ASGI application, as a web function and as a Server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any
from urllib.parse import parse_qs

import modal

PORT = 8000
CHUNK = b"data: " + b"x" * 56 + b"\n\n"
"""64 bytes, about an SSE event with a token."""

app = modal.App("benchmark-web")
image = modal.Image.debian_slim().add_local_python_source("tests")


async def stream(scope: dict[str, Any], _receive: Any, send: Any) -> None:
    """`GET /?n=…`: so many chunks, each its own event, as fast as they are taken."""
    if scope["type"] != "http":
        return
    count = int(parse_qs(scope["query_string"].decode())["n"][0])
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(count):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body"})


def command(port: int) -> list[str]:
    """How the application is served without Modal."""
    module = "tests.benchmarks.emulator_web_app:stream"
    options = ["--lifespan", "off", "--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", module, "--port", str(port), *options]


@app.function(image=image, max_containers=1, scaledown_window=600)
@modal.concurrent(max_inputs=100)
@modal.asgi_app()
def function() -> Any:
    return stream


@app.server(image=image, port=PORT, unauthenticated=True, scaledown_window=600)
class Server:
    @modal.enter()
    def start(self) -> None:
        self.process = subprocess.Popen(command(PORT))

    @modal.exit()
    def stop(self) -> None:
        self.process.terminate()
