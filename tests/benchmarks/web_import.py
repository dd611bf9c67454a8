"""What the web container loads before it can answer: CPU seconds of fresh processes, beside a bare FastAPI application.

    python -m tests.benchmarks.web_import [ROUNDS]

Rounds are interleaved, and a round's ratio is of processes that ran one after the other: how busy the machine is falls
out of it. `ours, whole`: with everything that is otherwise loaded when it is first asked for.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GOAL = 1.5
ASK = """
import asyncio
async def ask(app):
    sent = []
    async def receive(): return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message): sent.append(message)
    await app({
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": "/health", "raw_path": b"/health", "root_path": "", "query_string": b"", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "extensions": {},
    }, receive, send)
    assert sent[0]["status"] == 200, sent
"""
BARE = """
from fastapi import FastAPI
from pydantic import BaseModel
app = FastAPI()
class Health(BaseModel):
    status: str
@app.get("/health")
async def health() -> Health:
    return Health(status="ok")
"""
OURS = """
from infra.settings import Settings
from web.application import Services, create_application
from tests.configured_engines import ConfiguredEngines
from web.engines import EngineTarget
settings = Settings()
models = settings.models
target = EngineTarget(url="http://127.0.0.1:1", kind="scripted", model="m")
engines = ConfiguredEngines(models, {model.id: target for model in models.available_models})
app = create_application(Services(settings=settings, engines=engines), whole=WHOLE)
"""
CASES = {
    "bare FastAPI": BARE,
    "ours": OURS.replace("WHOLE", "False"),
    "ours, whole": OURS.replace("WHOLE", "True"),
}


def seconds(code: str) -> tuple[float, float]:
    """CPU seconds until the application is there, and until it has answered `GET /health`."""
    timed = f"{ASK}import time\nbegan = time.process_time()\n{code}\nbuilt = time.process_time()\nasyncio.run(ask(app))"
    done = subprocess.run(
        [sys.executable, "-c", f"{timed}\nprint(built - began, time.process_time() - began)"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    built, answered = map(float, done.stdout.split())
    return built, answered


def ratios(rounds: int) -> dict[str, tuple[float, float]]:
    """Case -> the medians of its ratios to the bare application: built, and answered."""
    told: dict[str, list[tuple[float, float]]] = {name: [] for name in CASES}
    for _ in range(rounds):
        for name, code in CASES.items():
            told[name].append(seconds(code))
    bare = told["bare FastAPI"]
    for name, times in told.items():
        print(f"{name:>13}: built {min(one[0] for one in times):.3f} s, answers {min(one[1] for one in times):.3f} s")
    return {
        name: (
            statistics.median(mine[0] / base[0] for mine, base in zip(times, bare, strict=True)),
            statistics.median(mine[1] / base[1] for mine, base in zip(times, bare, strict=True)),
        )
        for name, times in told.items()
    }  # fmt: skip


def main() -> None:
    found = ratios(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
    for name, (built, answers) in found.items():
        print(f"{name:>13}: {built:.2f} × the bare one until it is built, {answers:.2f} × until it answers")
    print(f"goal: {GOAL} ×")


if __name__ == "__main__":
    main()
