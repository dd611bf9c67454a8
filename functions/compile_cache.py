"""What an engine's kernels were compiled to, kept in a Volume from one container to the next.

SGLang keeps all of it below `SGLANG_CACHE_DIR` and sends those it is made of there too (0.5.23's `environ.py`: Triton,
Inductor, FlashInfer, DeepGEMM, TileLang, CUDA itself); its own JIT kernels and TVM's have variables of their own. The
folder lies on the container's disk, where file locks work and thousands of small files are read quickly, and always at
the same path, which some of these caches write into their files. The Volume holds one archive of it for each model,
hardware and set of versions, which is replaced as a whole.

A cache is an advantage and never a condition: what is missing, broken or cannot be written is logged, and compiled
anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import tarfile
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.cards import asked_of_cards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger(__name__)

COMPILERS: Final = ("sglang", "sgl-kernel", "torch", "triton", "flashinfer-python", "deep-gemm", "apache-tvm-ffi")
"""The packages that make code or run it: what one version has compiled is nothing to another."""
ABANDONED_SECONDS: Final = 3600.0
"""For how long nothing was written into an archive that nobody is at any more."""
DRIVER: Final = Path("/proc/driver/nvidia/gpus")
_FOLDERS: Final = {
    "SGLANG_CACHE_DIR": "",
    "SGLANG_DG_CACHE_DIR": "deep_gemm",
    "SGLANG_JIT_CACHE_DIR": "jit",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
    "CUDA_CACHE_PATH": "nv",
    "TILELANG_CACHE_DIR": "tilelang",
    "FLASHINFER_WORKSPACE_BASE": "",
    "TVM_FFI_CACHE_DIR": "tvm_ffi",
}


def variables(folder: Path) -> dict[str, str]:
    """The environment of an engine that is to keep what it compiles in `folder`."""
    return {name: str(folder / part) for name, part in _FOLDERS.items()}


def folder_of(model_id: str) -> Path:
    """Where that is in a container."""
    return Path(tempfile.gettempdir()) / "compiled" / model_id


def installed_versions(packages: Sequence[str] = COMPILERS) -> dict[str, str]:
    """Package -> version, of those that are installed here."""
    found = {}
    for package in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def gpus_here() -> list[str]:
    """The names of the GPUs that this container got: who asks for one kind may be given a better one. Empty where there
    is none. The driver's own files tell at once, `nvidia-smi` takes a second or two."""
    told: list[str] = []
    with contextlib.suppress(OSError):
        for file in sorted(DRIVER.glob("*/information")):
            told += file.read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in told if line.startswith("Model:")]
    return names or asked_of_cards("name")


def key_of(gpus: Sequence[str], versions: Mapping[str, str]) -> str:
    """A file's name: the same for the same hardware and versions. Pure."""
    told = "\n".join([*sorted(gpus), *(f"{name}={version}" for name, version in sorted(versions.items()))])
    kind = gpus[0] if gpus else "cpu"
    readable = "".join(letter if letter.isalnum() else "-" for letter in kind.lower())
    return f"{readable}-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


class CompileCache:
    """One container's: `restore` before its engine starts, `keep` once it has compiled. Neither ever raises."""

    def __init__(self, *, archive: Path, folder: Path, commit: Callable[[], object]) -> None:
        """`archive`: in the Volume; `folder`: on the disk; `commit`: makes what is in the Volume last."""
        self.archive = archive
        self.folder = folder
        self._commit = commit
        self._kept: frozenset[tuple[str, int]] = frozenset()
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    def restore(self) -> bool:
        """Have the folder hold what the archive does; whether it does. A folder that holds something is left alone."""
        try:
            self._remove_leftovers()
            if not self._files() and self.archive.is_file():
                self._unpack()
                self._kept = self._files()
        except Exception as error:  # what a broken archive can raise is anybody's guess: the engine starts all the same
            log.warning("compiled kernels cannot be taken from %s, and are compiled anew: %s", self.archive, error)
        return bool(self._kept)

    def keep(self) -> bool:
        """Have the archive hold what the folder does, if that has changed; whether it was written. Blocks."""
        with self._lock:
            try:
                found = self._files()
                if found == self._kept or self._given_up.is_set():
                    return False
                self._pack()
                self._commit()
            except _GivenUpError:
                log.warning("compiled kernels are not kept in %s: the container ends before they are", self.archive)
                return False
            except Exception as error:  # a full Volume, a container that is leaving: the engine serves all the same
                log.warning("compiled kernels cannot be kept in %s: %s", self.archive, error)
                return False
            self._kept = found
        log.info("%d files of compiled kernels are kept in %s", len(found), self.archive)
        return True

    def keep_soon(self) -> threading.Thread:
        """The same, in a thread: whoever waits for the engine does not wait for this."""
        thread = threading.Thread(target=self.keep, name="compile-cache", daemon=True)
        thread.start()
        return thread

    def give_up(self) -> None:
        """For good, with what is being written: a container that is killed meanwhile leaves half of it behind."""
        self._given_up.set()

    def _files(self) -> frozenset[tuple[str, int]]:
        """What there is: names below the folder and sizes, without locks, which say nothing."""
        found = set()
        for file in self.folder.rglob("*"):
            name = file.relative_to(self.folder)
            with contextlib.suppress(FileNotFoundError):  # gone since
                if file.is_file() and not _is_passing(name):
                    found.add((str(name), file.stat().st_size))
        return frozenset(found)

    def _unpack(self) -> None:
        """All of it, or nothing."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder.parent) as scratch:
            with tarfile.open(self.archive) as packed:
                packed.extractall(scratch, filter="data")
            shutil.rmtree(self.folder, ignore_errors=True)
            Path(scratch).rename(self.folder)
            Path(scratch).mkdir()  # for its owner to remove

    def _pack(self) -> None:
        """Written beside it and put in its place at once: who reads it meanwhile reads one or the other."""
        self.archive.parent.mkdir(parents=True, exist_ok=True)
        written = self.archive.with_name(f"{self.archive.name}.{os.getpid()}.partial")
        try:
            with tarfile.open(written, "w") as packed:
                for path in sorted(self.folder.rglob("*")):
                    if self._given_up.is_set():
                        raise _GivenUpError
                    with contextlib.suppress(FileNotFoundError):  # the engine still compiles: it was passing, too
                        if not _is_passing(path.relative_to(self.folder)):
                            packed.add(path, arcname=str(path.relative_to(self.folder)), recursive=False)
            written.replace(self.archive)
        finally:
            written.unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        """What containers have left that were killed while they wrote. One that writes now is younger."""
        for file in self.archive.parent.glob("*.partial"):
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                    file.unlink()


class _GivenUpError(Exception):
    """Nobody has the time for it any more."""


def _is_passing(file: Path) -> bool:
    """Locks, and what is being written."""
    return file.suffix in (".lock", ".tmp", ".partial") or "locks" in file.parts
