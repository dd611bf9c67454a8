"""Volumes in containers: what they write and see, commit and reload. Each function has a container of its own."""

import os
import shutil
import signal
import time
from pathlib import Path

import modal

app = modal.App("volumes")
shared = modal.Volume.from_name("parity-shared", create_if_missing=True, version=2)
AT = "/shared"


def perform(steps: list[tuple[str, ...]]) -> list[object]:
    """What each step gives, or the exception that it ends with."""
    return [_perform(*step) for step in steps]


def _perform(what: str, path: str = "", text: str = "") -> object:
    file = Path(AT, path)
    try:
        match what:
            case "write":
                file.parent.mkdir(parents=True, exist_ok=True)
                return file.write_text(text)
            case "read":
                return file.read_text() if file.exists() else None
            case "list":
                return sorted(str(found.relative_to(file)) for found in file.rglob("*"))
            case "remove":
                return file.unlink()
            case "rename":
                return str(file.rename(Path(AT, text)))
            case "rmtree":
                return shutil.rmtree(file)
            case "commit":
                return shared.commit()
            case "reload":
                return shared.reload()
            case "reload with open":
                with file.open():
                    return shared.reload()
            case "where":
                return str(file.resolve())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@app.function(volumes={AT: shared}, max_containers=1, scaledown_window=60)
def one(*steps: tuple[str, ...]) -> list[object]:
    return perform(list(steps))


@app.function(volumes={AT: shared}, max_containers=1, scaledown_window=60)
def other(*steps: tuple[str, ...]) -> list[object]:
    return perform(list(steps))


@app.function(volumes={AT: shared}, single_use_containers=True)
def fresh(*steps: tuple[str, ...]) -> list[object]:
    """A container that starts now, and leaves when it has done."""
    return perform(list(steps))


@app.function(volumes={AT: shared}, single_use_containers=True)
def dies_once(folder: str) -> list[str]:
    """What it finds, once it has found something: its container is killed before, after a commit and a write."""
    at = Path(AT, folder)
    if not at.exists():
        at.mkdir()
        (at / "committed").touch()
        shared.commit()
        (at / "lost").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return sorted(found.name for found in at.iterdir())


@app.function(volumes={AT: shared.with_mount_options(read_only=True)}, single_use_containers=True)
def reads_only(*steps: tuple[str, ...]) -> list[object]:
    return perform(list(steps))


@app.function(volumes={AT: shared.with_mount_options(sub_path="/part/of/it")}, single_use_containers=True)
def in_part(*steps: tuple[str, ...]) -> list[object]:
    return perform(list(steps))


@app.function(volumes={AT: shared}, single_use_containers=True)
def writes_and_waits(path: str, text: str, seconds: float) -> None:
    Path(AT, path).write_text(text)
    time.sleep(seconds)
