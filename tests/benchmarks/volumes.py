"""What Volumes let through: put, got, and in containers.

    python -m tests.benchmarks.volumes

The emulator runs in a process of its own, and the unmodified SDK in this one: what it hashes is in the figures of what
is put. `cold start` is that of a container with a Volume of so many files (medians).
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import modal

from tests.benchmarks.emulator import ROOT, Served, process
from tests.modal_cli import without_modal

if TYPE_CHECKING:
    from collections.abc import Callable

APP = "tests/benchmarks/volumes_app.py"
MEGABYTES = 256
FILES = 1_000
KEPT = 20_000
"""Files in the Volume when a cold start is measured."""
STARTS = 5

Figures = dict[str, float]


def seconds(do: Callable[[], object]) -> float:
    begun = time.perf_counter()
    do()
    return time.perf_counter() - begun


def put(volume: modal.Volume, local: Path, remote: str) -> None:
    with volume.batch_upload() as batch:
        (batch.put_directory if local.is_dir() else batch.put_file)(local, remote)


def got(volume: modal.Volume, path: str) -> None:
    for _ in volume.read_file(path):
        pass


def outside(client: modal.Client, folder: Path, version: int, scale: float) -> Figures:
    """MB/s of one large file, and small files/s."""
    megabytes, count = max(1, round(MEGABYTES * scale)), max(2, round(FILES * scale))
    large, small = folder / f"large{version}", folder / f"small{version}"
    large.write_bytes(os.urandom(megabytes << 20))
    small.mkdir()
    for number in range(count):
        (small / str(number)).write_bytes(os.urandom(1000))
    with modal.Volume.ephemeral(version=version, client=client) as volume:  # type: ignore[arg-type]
        named = f"version {version}:"
        return {
            f"{named} put, MB/s": megabytes / seconds(lambda: put(volume, large, "/large")),
            f"{named} get, MB/s": megabytes / seconds(lambda: got(volume, "large")),
            f"{named} put, files/s": count / seconds(lambda: put(volume, small, "/small")),
            f"{named} get, files/s": count / seconds(lambda: [got(volume, f"small/{n}") for n in range(count)]),
            f"{named} list, files/s": count / seconds(lambda: volume.listdir("/", recursive=True)),
        }


def inside(served: Served, scale: float) -> Figures:
    """In containers, and what a Volume's files add to their start."""
    megabytes, count, kept = (max(2, round(number * scale)) for number in (MEGABYTES, FILES, KEPT))
    named = {
        name: modal.Function.from_name("benchmark-volumes", name, client=served.client)
        for name in ("one_file", "many_files", "nothing", "reloads")
    }
    one, many = named["one_file"].remote(megabytes), named["many_files"].remote(count)
    few = cold(named["nothing"])
    named["many_files"].remote(kept)
    named["nothing"].remote()
    return {
        **{f"in a container: {what}, MB/s": megabytes / taken for what, taken in one.items()},
        **{f"in a container: {what}, files/s": count / taken for what, taken in many.items()},
        f"cold start, {count:,} files, ms": few,
        f"cold start, {kept:,} files, ms": cold(named["nothing"]),
        f"cold start, {kept:,} files, one changed, ms": cold(named["nothing"], before=lambda: changed(served.client)),
        f"reload, {kept:,} files, ms": 1000 * statistics.median(named["reloads"].remote() for _ in range(3)),
    }


def cold(function: modal.Function[[], None, None], before: Callable[[], None] = lambda: None) -> float:
    """Milliseconds of a call that has a container of its own."""
    taken = []
    for _ in range(STARTS):
        before()
        taken.append(seconds(function.remote))
    return 1000 * statistics.median(taken)


def changed(client: modal.Client) -> None:
    with modal.Volume.from_name("benchmark-volumes", client=client).batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(os.urandom(10)), "/changed")


def peak_memory(pid: int) -> float:
    """MB that the process has ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def figures(*, scale: float = 1.0) -> Figures:
    with process("zygote") as (served, said), tempfile.TemporaryDirectory() as folder:
        emulator = Served(served, said["environment"])
        try:
            command = (sys.executable, "-m", "modal", "deploy", APP)
            subprocess.run(
                command, cwd=ROOT, env={**without_modal(), **emulator.environment}, check=True, capture_output=True
            )
            before = peak_memory(served.pid)
            found = {}
            for version in (1, 2):
                found |= outside(emulator.client, Path(folder), version, scale)
            found |= inside(emulator, scale)
            return {**found, "emulator's memory, more at its peak, MB": peak_memory(served.pid) - before}
        finally:
            emulator.client.close()


def main() -> None:
    for name, value in figures().items():
        print(f"{name:48}{value:12,.1f}", flush=True)


if __name__ == "__main__":
    main()
