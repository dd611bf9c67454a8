"""What `volumes` measures in containers. By its file, alone."""

import os
import time
from pathlib import Path

import modal

app = modal.App("benchmark-volumes")
volume = modal.Volume.from_name("benchmark-volumes", create_if_missing=True, version=2)
AT = Path("/volume")
BLOCK = os.urandom(1 << 20)


@app.function(volumes={"/volume": volume}, single_use_containers=True)
def one_file(megabytes: int) -> dict[str, float]:
    """Seconds that a file takes to be written, committed, and read."""
    begun = time.perf_counter()
    with (AT / "large").open("wb") as file:
        for _ in range(megabytes):
            file.write(BLOCK)
    written = time.perf_counter()
    volume.commit()
    committed = time.perf_counter()
    with (AT / "large").open("rb") as file:
        while file.read(1 << 20):
            pass
    return {"write": written - begun, "commit": committed - written, "read": time.perf_counter() - committed}


@app.function(volumes={"/volume": volume}, single_use_containers=True)
def many_files(count: int) -> dict[str, float]:
    """Seconds that small files take to be written and committed."""
    folder = AT / "small"
    folder.mkdir(exist_ok=True)
    begun = time.perf_counter()
    for number in range(count):
        (folder / str(number)).write_bytes(b"x" * 1000)
    written = time.perf_counter()
    volume.commit()
    return {"write": written - begun, "commit": time.perf_counter() - written}


@app.function(volumes={"/volume": volume}, single_use_containers=True)
def nothing() -> None:
    pass


@app.function(volumes={"/volume": volume}, single_use_containers=True)
def reloads() -> float:
    """Seconds that a reload takes after a change."""
    (AT / "changed").write_text(str(time.time()))
    begun = time.perf_counter()
    volume.reload()
    return time.perf_counter() - begun
