"""The clients' own environments: each made from its lock into a folder that git ignores, again when that changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MADE = ROOT / ".venvs" / "conformance"
INSTALL_SECONDS = 400


class CannotInstall(Exception):
    """The message says what failed, in the installer's last words."""


class NotOnThisMachine(CannotInstall):
    """What the client runs on is not there: nothing that this project could install."""


@dataclass(frozen=True)
class Environment:
    """Where a client's code runs. `program`: the interpreter to start."""

    program: Path
    folder: Path


def own() -> Environment:
    """The environment of the tests themselves, which holds the newest clients."""
    return Environment(program=Path(sys.executable), folder=HERE / "clients")


def python(name: str, *, locks: Path = HERE / "requirements", made: Path = MADE) -> Environment:
    """The environment of `<locks>/<name>.txt`, in a folder of `made`. Raises CannotInstall."""
    lock = locks / f"{name}.txt"
    folder = made / name
    interpreter = folder / "bin" / "python"
    if is_made(folder, [lock]):
        return Environment(program=interpreter, folder=HERE / "clients")
    uv = Path(sys.executable).with_name("uv")
    # Not uv's: the pip that it puts in comes over the network, and the standard library's does not.
    run([sys.executable, "-m", "venv", "--clear", folder])
    install = ["install", "--quiet", "--require-hashes", "-r", lock]
    try:
        run([uv, "pip", *install, "--system-certs", "--compile-bytecode", "--python", interpreter])
    except CannotInstall:  # uv does not read pip's configuration: where that names a mirror, pip does it
        run([interpreter, "-m", "pip", *install, "--disable-pip-version-check"])
    now_made(folder, [lock])
    return Environment(program=interpreter, folder=HERE / "clients")


def node(source: Path = HERE / "node", name: str = "node") -> Environment:
    """The environment of `source`'s `package-lock.json`, the scripts copied into it: a script finds packages beside
    itself. Raises CannotInstall, and NotOnThisMachine where there is no Node.js."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        raise NotOnThisMachine("node and npm are not on this machine")
    folder = MADE / name
    locks = [source / file for file in ("package.json", "package-lock.json")]
    if not is_made(folder, locks):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for lock in locks:
            shutil.copy(lock, folder)
        run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"], folder)
        now_made(folder, locks)
    for script in source.glob("*.mjs"):
        shutil.copy(script, folder)
    return Environment(program=Path(program), folder=folder)


def is_made(folder: Path, locks: Sequence[Path]) -> bool:
    """Whether `folder` holds what was made from these files as they are."""
    made_from = folder / "made-from"
    return made_from.exists() and made_from.read_text() == _digest(locks)


def now_made(folder: Path, locks: Sequence[Path]) -> None:
    """Say so, once it does."""
    (folder / "made-from").write_text(_digest(locks))


def _digest(locks: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(lock.read_bytes() for lock in locks)).hexdigest()


def run(command: Sequence[object], folder: Path = ROOT, *, seconds: float = INSTALL_SECONDS) -> None:
    """Run a step of an installation. Raises CannotInstall with its last words."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words, cwd=folder, env=os.environ, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"{' '.join(words[:3])} took over {seconds:.0f} s") from None
    if done.returncode:
        raise CannotInstall(f"{' '.join(words[:3])} failed: {(done.stderr or done.stdout).strip()[-800:]}")
