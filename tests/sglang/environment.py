"""SGLang for CPUs in an environment of its own, `.venvs/sglang`: made from its locks, again when they change.

    python -m tests.sglang.environment                 # makes it, and says where it is; exit code 1 where it cannot
    python -m tests.sglang.environment --or-without    # 0 on a machine that SGLang is not for: its tests are skipped

Everything but torch comes from where all packages come from. Of torch it must be the build for CPUs, which lies
elsewhere: the other brings gigabytes of CUDA. It is looked for in the folders that `PIP_FIND_LINKS` and `UV_FIND_LINKS`
name and in the indexes that uv is configured with, in PyTorch's own index for CPUs (uv knows where that is), and by
pip, whose configuration uv does not read. Wherever it comes from, its hash is the one in `requirements/torch.txt`.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conformance.environments import ROOT, CannotInstall, NotOnThisMachine, is_made, now_made, run

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
MADE = ROOT / ".venvs" / "sglang"
TORCH, *OTHERS = [HERE / "requirements" / name for name in ("torch.txt", "packages.txt", "sglang.txt")]
STAND_INS = [HERE / "standins" / name for name in ("standins.py", "standins.pth")]
INSTALL_SECONDS = 900.0
"""A slow network, a busy machine: torch alone is 190 MB."""

FIRST_IMPORT = """
import sglang.srt.entrypoints.http_server
import sglang.srt.managers.detokenizer_manager
import sglang.srt.managers.scheduler
from sglang.srt.models.registry import ModelRegistry
assert "LlamaForCausalLM" in ModelRegistry.models
"""
"""What the server's processes import, once now: its bytecode is kept, and what does not import is noticed here."""
ON_A_CPU = {"SGLANG_USE_CPU_ENGINE": "1", "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}
"""What runs SGLang here. Of its kernels, torch compiles those of penalties when they are first asked for: with Triton,
of which there is a stand-in, or a C++ compiler, which need not be there; SGLang's scheduler dies of it where neither
works. What it would compile for a CPU is not what a GPU runs, so here they run as they are written."""


def python() -> Path:
    """The environment's interpreter. Raises NotOnThisMachine where it cannot be made, and CannotInstall where that
    failed."""
    interpreter = MADE / "bin" / "python"
    if is_made(MADE, [TORCH, *OTHERS]):
        _put_stand_ins()
        return interpreter
    if (sys.platform, platform.machine()) not in (("linux", "x86_64"), ("linux", "aarch64")):
        raise NotOnThisMachine(f"SGLang has no packages for {sys.platform} on {platform.machine()}")
    if not _works(interpreter):
        run([sys.executable, "-m", "venv", "--clear", MADE])
    _install_torch(interpreter)
    _install(interpreter, OTHERS)
    _put_stand_ins()
    _import_once(interpreter)
    now_made(MADE, [TORCH, *OTHERS])
    return interpreter


def _works(interpreter: Path) -> bool:
    """Whether there is an environment that only lacks what is new in the locks."""
    try:
        return subprocess.run([interpreter, "-c", ""], timeout=60, check=False).returncode == 0
    except OSError:
        return False


def _put_stand_ins() -> None:
    (packages,) = MADE.glob("lib/python*/site-packages")
    for file in STAND_INS:
        shutil.copy(file, packages)


def _install_torch(interpreter: Path) -> None:
    uv = _uv(interpreter)
    # Hashes say which file it is, so it does not matter which of the indexes has it.
    anywhere = [*uv, *_found_here(), "--index-strategy", "unsafe-best-match"]
    said = []
    for command in (anywhere, [*uv, "--torch-backend", "cpu"], _pip(interpreter)):
        try:
            run([*command, "-r", TORCH], seconds=INSTALL_SECONDS)
        except CannotInstall as error:
            said.append(str(error))
        else:
            return
    raise NotOnThisMachine(
        "torch's build for CPUs cannot be had: set UV_FIND_LINKS to a folder with its wheel, or UV_INDEX to an index "
        "that has it.\n" + "\n".join(said)
    )


def _install(interpreter: Path, locks: Sequence[Path]) -> None:
    wanted = [word for lock in locks for word in ("-r", str(lock))]
    try:
        run([*_uv(interpreter), *wanted], seconds=INSTALL_SECONDS)
    except CannotInstall:  # uv does not read pip's configuration: where that names a mirror, pip does it
        run([*_pip(interpreter), *wanted], seconds=INSTALL_SECONDS)


def _uv(interpreter: Path) -> list[str]:
    """The locks are whole: no package is asked what it needs, which would bring CUDA."""
    uv = Path(sys.executable).with_name("uv")
    return [
        str(uv), "pip", "install", "--quiet", "--system-certs", "--require-hashes", "--no-deps", "--python",
        str(interpreter),
    ]  # fmt: skip


def _pip(interpreter: Path) -> list[str]:
    return [
        str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes",
        "--no-deps",
    ]  # fmt: skip


def _found_here() -> list[str]:
    """uv reads `UV_FIND_LINKS` itself."""
    return [word for place in os.environ.get("PIP_FIND_LINKS", "").split() for word in ("--find-links", place)]


def _import_once(interpreter: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [interpreter, "-c", FIRST_IMPORT], cwd=ROOT, env=environment | ON_A_CPU, capture_output=True, text=True,
        timeout=INSTALL_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CannotInstall(f"SGLang was installed and cannot be imported: {done.stderr.strip()[-800:]}")


def main() -> None:
    began = time.monotonic()
    try:
        print(f"SGLang for CPUs: {python().parents[1]} ({time.monotonic() - began:.0f} s)")
    except CannotInstall as error:
        if sys.argv[1:] != ["--or-without"] or not isinstance(error, NotOnThisMachine):
            sys.exit(f"SGLang cannot be run here: {error}")
        print(f"SGLang cannot be run here, so its tests are skipped: {error}")


if __name__ == "__main__":
    main()
