"""Calls of every kind, made by the unmodified client through `modal run`, worked on by its own container runtime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import asyncio, json, os, sys, time
import modal

app = modal.App("calls")
volume = modal.Volume.from_name("counters", create_if_missing=True)

@app.function(secrets=[modal.Secret.from_dict({"TOKEN": "one"})], env={"COLOUR": "green"})
def environment():
    return dict(os.environ)

@app.cls()
class Counter:
    start: int = modal.parameter(default=5)

    @modal.enter()
    def setup(self):
        self.n = self.start

    @modal.method()
    def add(self, k):
        self.n += k
        return self.n

    @modal.method()
    def upto(self, k):
        for i in range(k):
            yield self.n + i

retries = modal.Retries(max_retries=2, initial_delay=0.0, backoff_coefficient=1.0)

@app.function(retries=retries, volumes={"/counters": volume})
def flaky():
    path = "/counters/attempts"
    n = int(open(path).read()) if os.path.exists(path) else 0
    open(path, "w").write(str(n + 1))
    if n < 2:
        raise RuntimeError(f"attempt {n}")
    return n

@app.function(timeout=1)
def endless():
    while True:
        time.sleep(0.1)

@app.function()
@modal.concurrent(max_inputs=10)
async def together(n):
    together.inside = getattr(together, "inside", 0) + 1
    async with asyncio.timeout(20):
        while together.inside < n:
            await asyncio.sleep(0.01)
    return os.getpid()

@app.function()
@modal.batched(max_batch_size=4, wait_ms=500)
def batch(x: list[int]) -> list[int]:
    return [v * len(x) for v in x]

@app.function(max_containers=1)
def exits():
    os._exit(3)

def outcome(work):
    try:
        return ["returned", work()]
    except BaseException as error:
        import traceback
        return [type(error).__name__, str(error), "".join(traceback.format_exception(error))]

@app.local_entrypoint()
def main(path: str):
    report = {}
    report["environment"] = environment.remote()
    counter = Counter(start=3)
    report["class"] = [counter.add.remote(4), counter.add.remote(1), list(counter.upto.remote_gen(2))]
    report["class"].append(Counter().add.remote(1))
    report["retries"] = flaky.remote()
    report["timeout"] = outcome(endless.remote)
    report["together"] = len(set(together.map([5] * 5)))
    report["batch"] = list(batch.map(range(4)))
    report["exits"] = outcome(exits.remote)
    json.dump(report, open(path, "w"))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the app above says about itself: one run serves all tests."""
    folder: Path = tmp_path_factory.mktemp("calls")
    write_app(folder, APP)
    with Emulator() as emulator:
        ran = modal(emulator, "run", "-q", "app.py", "--path", str(folder / "report.json"), cwd=folder)
        assert ran.returncode == 0, ran.stderr + ran.stdout
    loaded: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return loaded


pytestmark = pytest.mark.timeout(150)


def test_a_container_sees_its_secrets_and_variables_and_the_emulated_aws_but_no_credentials_of_the_client(
    report: dict[str, Any],
) -> None:
    seen = report["environment"]
    assert (seen["TOKEN"], seen["COLOUR"], seen["MODAL_IS_REMOTE"]) == ("one", "green", "1")
    assert seen["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert seen["MODAL_TASK_ID"].startswith("ta-")
    assert not [name for name in seen if name.startswith(("MODAL_TOKEN", "MODAL_CONFIG"))]


def test_parameters_of_a_class_make_instances_of_their_own(report: dict[str, Any]) -> None:
    assert report["class"] == [7, 8, [8, 9], 6]


def test_a_failing_function_is_tried_again_and_finds_its_volume_as_it_left_it(report: dict[str, Any]) -> None:
    assert report["retries"] == 2


def test_a_function_over_its_timeout_raises_as_on_modal(report: dict[str, Any]) -> None:
    kind, message, _ = report["timeout"]
    assert kind == "FunctionTimeoutError"
    assert "timeout of 1s" in message


def test_concurrent_inputs_share_a_container(report: dict[str, Any]) -> None:
    assert report["together"] == 1


def test_batched_inputs_come_together(report: dict[str, Any]) -> None:
    assert report["batch"] == [0, 4, 8, 12]


def test_code_that_kills_its_container_ends_the_call_after_a_few_containers(report: dict[str, Any]) -> None:
    kind, message, _ = report["exits"]
    assert kind == "InternalFailure"
    assert "exit code 3" in message
