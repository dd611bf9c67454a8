"""The whole path (client, web function, engine server) beside the engine direct, on one machine, in one run.

    python -m tests.benchmarks.whole_path

What is compared runs in turns, so that a noisy machine disturbs both alike; medians of the rounds are printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.emulator import Emulator
from functions.engines.base import Address
from functions.engines.llamacpp import LlamaCppEngine
from functions.engines.scripted import ScriptedEngine
from infra.settings import DEMO_MODEL
from tests.benchmarks.load import Run, run
from tests.ports import free_port
from tests.service.deployment import DEMO, ROOT, Service, deploy, scripted, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 3
COALESCE = ("0", "0.005")
FORMS = {
    "function, coalesce 0 s": {"WEB__COALESCE_SECONDS": "0"},
    "function, coalesce 0.005 s": {"WEB__COALESCE_SECONDS": "0.005"},
    "server": {"DEPLOY__WEB": "server", "WEB__SCALING": '{"min_containers": 1, "max_containers": 1}'},
}
"""What the web endpoint can be on Modal, and how each is configured."""


def question(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "What is this project?"}], **more}


def interleave(measured: dict[str, tuple[str, dict[str, Any]]], *, streams: int) -> dict[str, list[Run]]:
    """Runs of every (address, body), in turns; the first round warms up and is not counted."""
    runs: dict[str, list[Run]] = {name: [] for name in measured}
    for turn in range(ROUNDS + 1):
        for name, (url, body) in measured.items():
            done = run(url, body, streams=streams)
            if turn:
                runs[name].append(done)
    return runs


def median(runs: list[Run], what: str) -> float:
    return statistics.median(getattr(item, what) for item in runs)


def compare(title: str, runs: dict[str, list[Run]], *, against: str) -> None:
    base = runs[against]
    print(f"\n{title}")
    for name, done in runs.items():
        speed, first = median(done, "tokens_per_second"), median(done, "first_token")
        ratio = speed / median(base, "tokens_per_second")
        added = (first - median(base, "first_token")) * 1000
        rate = f"{speed:9.1f} tokens/s ({ratio:5.3f} of {against})"
        print(f"  {name:<14} {rate}   TTFT {first * 1000:7.1f} ms ({added:+.1f})")


def direct_scripted() -> ScriptedEngine:
    engine = ScriptedEngine(address=Address(host="127.0.0.1", port=free_port()), model_name="steady")
    engine.start()
    return engine


def direct_demo() -> LlamaCppEngine:
    folder = str(ROOT / DEMO_MODEL.path) if DEMO_MODEL.path else ""
    address = Address(host="127.0.0.1", port=free_port())
    engine = LlamaCppEngine(DEMO_MODEL, source=folder, address=address, api_key=None, max_requests=10)
    engine.start()
    return engine


def paced(model: str, *, tokens: int, gap: float) -> dict[str, Any]:
    return question(model, max_tokens=tokens, x_scripted={"tokens": tokens, "gap": gap})


def service_figures(service: Service, *, coalesce: str) -> None:
    scripted_engine, demo_engine = direct_scripted(), direct_demo()
    try:
        body = paced("steady", tokens=150, gap=0.02)
        runs = interleave({"direct": (scripted_engine.address.url, body), "whole path": (service.url, body)}, streams=8)
        compare(f"scripted engine, 8 streams of 50 tokens/s, coalesce {coalesce} s", runs, against="direct")
        for streams in (1, 8):
            # ignore_eos is llama.cpp's own, so both get a question whose answer is as long as it is.
            body = question("demo", temperature=0, seed=1)
            runs = interleave(
                {"direct": (demo_engine.address.url, body), "whole path": (service.url, body)}, streams=streams
            )
            compare(f"demo model, {streams} stream(s), coalesce {coalesce} s", runs, against="direct")
    finally:
        scripted_engine.stop()
        demo_engine.stop()


def form_figures(service: Service, *, form: str) -> None:
    """As many tokens as the web endpoint carries in this form: the engine says them far faster."""
    run(service.url, paced("flood", tokens=10, gap=0.002), streams=8)  # boots and warms up
    for streams, tokens in ((32, 200), (256, 50)):
        body = paced("flood", tokens=tokens, gap=0.002)
        done = [run(service.url, body, streams=streams) for _ in range(ROUNDS)]
        speed, first = median(done, "tokens_per_second"), median(done, "first_token")
        figures = f"{speed:9.1f} tokens/s   TTFT {first * 1000:7.1f} ms"
        print(f"  {form:<28} {streams:>3} streams   {figures}")


def memory(service: Service) -> None:
    """Private memory of each container's process tree, in MiB."""
    for info in service.emulator.containers():
        if info.pid is not None:
            own = [_private(pid) for pid in _tree(info.pid)]
            print(f"  container of {info.function:<16} {own[0]:6.1f} MiB private, {sum(own):6.1f} with its children")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _tree(int(child))


def _private(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def boot_figures() -> None:
    """`emulator up`, as `make run` calls it, from its start to ready, and to the first token of the first request."""
    port = free_port()
    command = [sys.executable, "-m", "emulator", "up", "app.py", "--port", str(port), "--no-reload",
               "--ready-path", "/readiness", "--before", f"{sys.executable} -m infra.setup"]  # fmt: skip
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        environment = {**os.environ, "DEPLOY__TARGET": "local"}
        up = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: b"\nReady: " in _read(output), within=120)
            ready = time.perf_counter() - started
            first = run(f"http://127.0.0.1:{port}", question("demo"), streams=1).first_token
        finally:
            up.terminate()
            up.wait(30)
    print(f"  make run (set-up done): ready after {ready:.2f} s; first token of the first request {first:.2f} s later")


def _read(output: Any) -> bytes:
    return os.pread(output.fileno(), 1 << 20, 0)


def cold_start(service: Service) -> None:
    """The first request of an engine that does not run, to its first token."""
    seconds = []
    for _ in range(ROUNDS):
        until(lambda: not service.engines("demo-brief"), within=60)
        seconds.append(run(service.url, question("demo-brief"), streams=1).first_token)
    print(f"  engine cold start (demo model), request to first token: {statistics.median(seconds):.2f} s")


def main() -> None:
    print("boot")
    boot_figures()
    demo_brief = {**DEMO, "id": "demo-brief", "name": "demo-brief", "scaling": {"scaledown_window": 2}}
    steady, flood = scripted("steady", scaledown_window=1200), scripted("flood", scaledown_window=1200)
    one = {"WEB__SCALING": '{"max_containers": 1, "scaledown_window": 1200}'}
    for coalesce in COALESCE:
        with Emulator() as emulator:
            service = deploy(emulator, [DEMO, demo_brief, steady], WEB__COALESCE_SECONDS=coalesce, **one)
            cold_start(service)
            service_figures(service, coalesce=coalesce)
            memory(service)
    print("\nthe web endpoint's forms, as fast as they go")
    many = {"MODELS__MAX_CONCURRENT_REQUESTS": "300", "WEB__MAX_CONCURRENT_REQUESTS": "300"}
    many["LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE"] = "1000000"
    for form, more in FORMS.items():
        with Emulator() as emulator:
            service = deploy(emulator, [flood], **many, **{**one, **more})
            until(lambda url=service.url: _answers(url), within=60)  # type: ignore[misc]
            form_figures(service, form=form)


def _answers(url: str) -> bool:
    """Whether it answers there: a Server does not while no container of it runs."""
    try:
        urllib.request.urlopen(f"{url}/health", timeout=30).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
