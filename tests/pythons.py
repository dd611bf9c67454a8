"""The emulator's quick tests on the other Pythons of this machine: `make check` runs it.

Python 3.11 to 3.13 are supported, and `make test` uses one. For each other one that is found, a virtual environment of
the same locked packages is made in `.venvs/` and kept. What can not be done is said, and is no failure: a machine may
have one Python alone, or no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("3.11", "3.12", "3.13")
LOCKED = ROOT / "requirements" / "dev.txt"
TESTS = (
    "tests/emulator/test_aws.py",
    "tests/emulator/test_calls_web.py",
    "tests/emulator/test_containers_compat.py",
    "tests/emulator/test_containers_lifecycle.py",
    "tests/emulator/test_containers_thread.py",
    "tests/emulator/test_containers_zygote.py",
    "tests/emulator/test_core.py",
    "tests/emulator/test_ingress_end_to_end.py",
    "tests/emulator/test_protocol_versions.py",
    "tests/emulator/test_state_archive.py",
    "tests/parity/test_holding_restarts.py",
    "tests/parity/test_calls_plain.py",
    "tests/parity/test_cli_run.py",
)
"""What depends on the Python: containers, the client's inside, the CLI, files and sockets. A minute or so each."""
INSTALL_SECONDS, TEST_SECONDS = 600, 900


def found(number: str) -> Path | None:
    """A Python of that version on this machine."""
    folders = [Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"]
    installed = [path for folder in folders for path in sorted(folder.glob(f"{number}.*/bin/python"), reverse=True)]
    on_path = shutil.which(f"python{number}")
    for candidate in [*installed, *([Path(on_path)] if on_path else [])]:
        code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        told = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if told.stdout.strip() == number:
            return candidate
    return None


def environment(number: str, python: Path) -> Path:
    """The Python of a virtual environment with the locked packages. Raises `CalledProcessError` or `OSError`."""
    folder = ROOT / ".venvs" / f"python{number}"
    inside, mark = folder / "bin" / "python", folder / ".locked"
    if mark.exists() and mark.read_bytes() == LOCKED.read_bytes():
        return inside
    uv = str(Path(sys.executable).with_name("uv"))
    install = [uv, "pip", "install", "--quiet", "--system-certs", "--python", inside, "--require-hashes", "-r", LOCKED]
    for command in ([uv, "venv", "--quiet", "--clear", "--python", python, folder], install):
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS, capture_output=True, text=True)
    mark.write_bytes(LOCKED.read_bytes())
    return inside


def passes_on(number: str) -> bool:
    """Whether its tests pass, or can not be run here."""
    if (python := found(number)) is None:
        print(f"Python {number}: none on this machine, not tested")
        return True
    try:
        inside = environment(number, python)
    except (subprocess.SubprocessError, OSError) as error:
        why = str(getattr(error, "stderr", "") or error).strip().splitlines()
        print(f"Python {number}: its packages can not be installed, not tested: {why[-1] if why else error!r}")
        return True
    command = [inside, "-m", "pytest", "-q", "-m", "not slow", "-n", "2", "--dist", "loadfile", "--reruns", "1", *TESTS]
    print(f"Python {number} ({python})", flush=True)
    try:
        return subprocess.run(command, cwd=ROOT, timeout=TEST_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"Python {number}: its tests have not ended after {TEST_SECONDS} s")
        return False


def main() -> int:
    """The exit status: 0 if no Python has failed."""
    own = "{}.{}".format(*sys.version_info[:2])
    failed = [number for number in SUPPORTED if number != own and not passes_on(number)]
    if failed:
        print(f"failed on Python {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
