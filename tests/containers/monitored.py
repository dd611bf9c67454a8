"""The service under load, and a real Prometheus that scrapes it by the project's own configuration."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.model_files import ROOT
from tests.benchmarks.processes import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MONITORING = ROOT / "infra/monitoring"
OPERATOR, SCRAPER = "sk-operator-of-a-test", "sk-prometheus-of-a-test"
LIMITED = "sk-limited-of-a-test"


def scripted(model_id: str, *arguments: str, **script: Any) -> dict[str, Any]:
    prices = {"prompt_tokens": 1000, "completion_tokens": 1000, "engine_seconds": 1}
    return {
        "id": model_id, "name": f"scripted/{model_id}", "local_engine": "scripted", "prices": prices,
        "scripted_args": [*arguments, "--script", json.dumps({"gap": 0.005, "cached_tokens": 1, **script})],
    }  # fmt: skip


@dataclass(frozen=True)
class Monitored:
    service: str
    prometheus: str

    def told(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus answers to a query. Raises ValueError with its own words where it cannot read it."""
        try:
            with urllib.request.urlopen(self._query(expression), timeout=30) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return result
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode()}") from None

    def values(self, expression: str) -> list[float]:
        return [float(one["value"][1]) for one in self.told(expression)]

    def _query(self, expression: str) -> str:
        return f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"


@contextlib.contextmanager
def monitored(folder: Path) -> Iterator[Monitored]:
    """Both, after some load of every kind. `folder`: an empty one."""
    (folder / "broken.gguf").write_bytes(b"no model")
    models = [
        scripted("warm"), scripted("cold", "--boot-seconds", "0.5"),
        {"id": "dead", "name": "dead", "local_engine": "llamacpp", "path": str(folder / "broken.gguf")},
    ]  # fmt: skip
    keys = [
        {"key": OPERATOR, "name": "operator", "scopes": ["inference", "admin"], "rate_limit_per_minute": 100_000},
        {"key": SCRAPER, "name": "prometheus", "scopes": ["metrics"]},
        {"key": LIMITED, "name": "limited", "rate_limit_per_minute": 1},
    ]
    port = free_port()
    environment = {
        "SERVER__PORT": str(port), "MODELS__AVAILABLE_MODELS": json.dumps(models), "SECURITY__ENABLE_AUTH": "true",
        "SECURITY__API_KEYS": json.dumps(keys), "MODELS__MAX_CONCURRENT_REQUESTS": "2",
    }  # fmt: skip
    with (
        running([sys.executable, "-m", "functions.standalone"], port=port, environment=environment),
        _prometheus(folder, port) as prometheus,
    ):
        both = Monitored(f"http://127.0.0.1:{port}", prometheus)
        _until(lambda: both.values('up{job="llm"}') == [1.0])
        for _ in range(2):  # a rate needs what was counted before, and after
            _load(both)
            loaded = time.time()
            told = 'timestamp(requests_running{job="llm", model="warm"})'  # of the last scrape, if that went well
            while max(both.values(told), default=0.0) < loaded + 1:
                time.sleep(0.1)
        yield both


@contextlib.contextmanager
def _prometheus(folder: Path, target: int) -> Iterator[str]:
    """Prometheus by infra/monitoring's configuration, but for where things are and how often it looks."""
    shutil.copy(MONITORING / "rules.yml", folder)
    (folder / "key").write_text(SCRAPER)
    text = (MONITORING / "prometheus.yml").read_text()
    changes = {"/run/secrets/metrics_key": str(folder / "key"), "llm:3000": f"127.0.0.1:{target}", "15s": "1s"}
    for what, instead in changes.items():
        assert what in text
        text = text.replace(what, instead)
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    command = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    with running(command, port=port, environment={}):
        _until(lambda: _is_ready(port))
        yield f"http://127.0.0.1:{port}"


def _is_ready(port: int) -> bool:
    """Prometheus listens before it answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=30):
            return True
    except OSError:
        return False


def _load(both: Monitored) -> None:
    """Some of everything that is counted."""
    with ThreadPoolExecutor(8) as callers:
        for _ in range(6):
            callers.submit(_ask, both, "/v1/chat/completions", model="warm", messages=[_words()])
            callers.submit(_ask, both, "/v1/completions", model="warm", prompt="some words")
        callers.submit(_ask, both, "/v1/chat/completions", model="cold", messages=[_words()])
        for path, prompt in (("/v1/chat/completions", {"messages": [_words()]}), ("/v1/completions", {"prompt": "a"})):
            callers.submit(_ask, both, path, model="warm", x_scripted={"error_after": 0}, **prompt)
        callers.submit(_ask, both, "/v1/chat/completions", model="dead", messages=[_words()])
        for _ in range(2):
            callers.submit(_ask, both, "/v1/chat/completions", key=LIMITED, model="warm", messages=[_words()])
        callers.submit(_leave, both)
    _ask(both, "/models/cold/unload")


def _words() -> dict[str, str]:
    return {"role": "user", "content": "some words that are asked"}


def _ask(both: Monitored, path: str, *, key: str = OPERATOR, **body: Any) -> int:
    request = urllib.request.Request(
        both.service + path, data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _leave(both: Monitored) -> None:
    """Read the beginning of an answer, and go."""
    connection = http.client.HTTPConnection(both.service.removeprefix("http://"), timeout=60)
    body = {"model": "warm", "messages": [_words()], "stream": True, "x_scripted": {"gap": 0.2, "tokens": 500}}
    headers = {"authorization": f"Bearer {OPERATOR}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    connection.getresponse().read(100)
    connection.close()


def _until(true: Any, *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.1)


def queries() -> dict[str, str]:
    """Every expression of the dashboards, by where it is, as Grafana would send it."""
    found = {}
    for file in sorted((MONITORING / "grafana/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                found[f"{file.stem}: {panel['title']}: {target['refId']}"] = filled(target["expr"])
    return found


def filled(expression: str) -> str:
    variables = {"$__rate_interval": "1m", "$__range": "1h", "$model": ".*", "$hourly": "0.8"}
    for name, value in variables.items():
        expression = expression.replace(name, value)
    return expression


def metrics_in(expression: str) -> set[str]:
    """The names of series that an expression asks for."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " {} ", expression)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", " ", bare)
    names = set(re.findall(r"\b([a-z][a-z0-9_:]*)\b(?!\s*\()", bare))
    return names - {"or", "and", "unless", "by", "on", "bool", "e6"}
