"""A real Prometheus scrapes service and exporter: it takes what they tell, and no counter of theirs ever falls."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from infra.exporter import Exporter, server
from infra.settings import Settings, State
from tests.functions.test_standalone import running
from tests.ports import free_port, lasting_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from emulator.aws import Aws
    from tests.aws_kit import StateOfTest
    from tests.functions.test_standalone import Standalone

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        shutil.which("prometheus") is None or shutil.which("promtool") is None,
        reason="Debian's package prometheus, a program that scrapes metrics, is not installed",
    ),
]

MODELS: list[dict[str, Any]] = [{"id": "m", "name": "org/m", "local_engine": "scripted"}]
SECONDS = "[5m]"
SCRAPE = "2s"
"""Between two scrapes, and how long one may take: a busy machine takes its time."""


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[float]:
        """The values of an instant vector."""
        return [float(one["value"][1]) for one in self._result(expression)]

    def series(self, selector: str) -> dict[str, list[float]]:
        """All values that were scraped, by series."""
        found = self._result(selector + SECONDS)
        return {str(one["metric"]): [float(value) for _, value in one["values"]] for one in found}

    def _result(self, expression: str) -> list[Any]:
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=30) as answer:
            told = json.load(answer)
        assert told["status"] == "success", told
        found: list[Any] = told["data"]["result"]
        return found


@contextlib.contextmanager
def scraping(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes ports of this machine, by job."""
    jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in targets.items()]
    config = folder / "prometheus.yml"  # YAML takes JSON
    config.write_text(json.dumps({"global": {"scrape_interval": SCRAPE}, "scrape_configs": jobs}))
    port = free_port()
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while True:
        with contextlib.suppress(OSError):  # it does not listen yet
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def ask(service: Standalone, times: int) -> None:
    for _ in range(times):
        assert len(list(service.stream("m", tokens=5))) >= 5


def checked(url: str) -> None:
    """What promtool has to say of it: nothing."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        text = answer.read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_it_takes_what_service_and_exporter_tell_and_no_counter_falls_when_a_container_dies(
    aws_server: Aws, aws_state: StateOfTest, tmp_path: Path
) -> None:
    exporter = Exporter(Settings(state=State(table=aws_state.name)), aws_state.admin)
    listening = server(exporter, host="127.0.0.1", port=0)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    port = lasting_port()
    settings = {
        **aws_server.environment(), "STATE__KIND": "aws", "STATE__TABLE": aws_state.name,
        "STATE__BUCKET": aws_state.name, "METRICS__PUBLISH_INTERVAL": "1", "SERVER_PORT": str(port),
        "LIMITS__DEFAULT_RATE_LIMIT_PER_MINUTE": "100000",
    }  # fmt: skip
    jobs = {"service": port, "exporter": listening.server_address[1]}
    requests = 'chat_completions_requests_total{model="m"}'
    with contextlib.ExitStack() as stack:
        stack.callback(listening.server_close)
        stack.callback(listening.shutdown)
        first = stack.enter_context(running(tmp_path / "first", MODELS, **settings))
        prometheus = stack.enter_context(scraping(tmp_path, jobs))
        ask(first, 4)
        until(lambda: prometheus.query("up") == [1, 1], "both are up")
        until(lambda: prometheus.query(requests) == [4, 4], "both tell all of it")
        until(
            lambda: prometheus.query('engine_generation_tokens_total{model="m"}') == [20, 20], "its engine's count, too"
        )
        for url in (first.url + "/metrics", f"http://127.0.0.1:{listening.server_address[1]}/metrics"):
            checked(url)
        first.process.kill()
        first.process.wait()
        until(lambda: prometheus.query('up{job="service"}') == [0], "it is seen to be gone")
        until(
            lambda: prometheus.query('chat_completions_requests_total{model="m",job="exporter"}') == [4], "not so here"
        )
        second = stack.enter_context(running(tmp_path / "second", MODELS, **settings))
        ask(second, 3)
        until(lambda: prometheus.query(requests) == [7, 7], "the next one goes on where the first was")
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(timeout=60) == 0
        scraped = prometheus.series('{__name__=~".+_(total|count|sum|bucket)"}')
        assert len(scraped) > 200
        assert {name: values for name, values in scraped.items() if values != sorted(values)} == {}
        assert min(prometheus.query(f"rate({requests}{SECONDS})")) >= 0
        until(lambda: prometheus.query('web_container_starts_total{job="exporter"}') == [2], "both have started")
        until(lambda: prometheus.query('web_containers{job="exporter"}') == [0], "gauges are those of the living")
