"""An engine of ours in the Python that has SGLang: a process that starts it by our code and does what it is told.

    python -m tests.gpu.engine '{"model": …, "device": …, "port": …, "key": …, "places": …}'

Each line that it reads is a method of the engine (`sleep`, `wake`, `healthy`); each is answered by a line of JSON, and
so is the start.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class Place:
    """`program`: the Python that has SGLang."""

    program: str
    device: Literal["cuda", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Running:
    """An engine that serves at `url` to who has `key`."""

    url: str
    key: str
    boot: str
    process: subprocess.Popen[str]

    def tell(self, word: str) -> Any:
        """Have the engine do it; what it returned. Raises RuntimeError with its error."""
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)
        return _read(self.process)


@contextlib.contextmanager
def running(place: Place, model: dict[str, Any], *, places: int) -> Iterator[Running]:
    """The engine of this model (as in the configuration), once it is ready. Its log goes to this process's stderr."""
    from tests.ports import free_port

    task = {"model": model, "device": place.device, "port": free_port(), "key": "ek-gpu", "places": places}
    command = [place.program, "-m", __name__, json.dumps(task)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            boot = _read(process)
            yield Running(url=f"http://127.0.0.1:{task['port']}", key=task["key"], boot=boot, process=process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(120)


def _read(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the engine's process ended with {process.wait()}")
    told = json.loads(line)
    if "error" in told:
        raise RuntimeError(told["error"])
    return told["returned"]


def main() -> None:
    """The engine's side."""
    from functions.boot import Boot
    from functions.engines.base import Address, EngineError
    from functions.engines.registry import make_engine
    from infra.settings import Deploy, Model, Models, Settings

    task = json.loads(sys.argv[1])
    model = Model(**task["model"], device=task["device"], engine="sglang")
    models = Models(available_models=(model,), max_concurrent_requests=task["places"])
    settings = Settings(models=models, deploy=Deploy(target="modal"))
    address = Address(host="127.0.0.1", port=task["port"])
    boot = Boot()
    engine = make_engine(
        model, settings, address=address, api_key=task["key"], files=Path(model.path or ""), boot=boot
    )  # fmt: skip
    try:
        engine.start()
        print(json.dumps({"returned": str(boot.is_ready())}), flush=True)
        for line in sys.stdin:
            try:
                returned = getattr(engine, line.strip())()
            except EngineError as error:
                print(json.dumps({"error": error.message}), flush=True)
            else:
                print(json.dumps({"returned": returned}), flush=True)
    except EngineError as error:
        print(json.dumps({"error": error.message}), flush=True)
    finally:
        engine.stop()


if __name__ == "__main__":
    main()
