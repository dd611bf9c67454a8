"""What people install, and from what: the wheel ships the emulator alone; the locks pin everything and name no host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import imports

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GROUPS = PROJECT["dependency-groups"]
LOCKS = {
    "dev": [*PROJECT["project"]["dependencies"], *GROUPS["web"], *GROUPS["cpu"], *GROUPS["dev"]],
    "run": [*PROJECT["project"]["dependencies"], *GROUPS["web"], *GROUPS["cpu"]],
    "web": GROUPS["web"],
    "cpu": GROUPS["cpu"],
    "uv": GROUPS["setup"],
}


def pinned(lock: str) -> dict[str, str]:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    return {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)(?:\[.*\])?==(\S+)", text, re.M)
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_what_the_project_asks_for(lock: str) -> None:
    versions = pinned(lock)
    for line in LOCKS[lock]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(versions[canonicalize_name(wanted.name)]), line


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_hashes_and_names_no_host(lock: str) -> None:
    text = (ROOT / f"requirements/{lock}.txt").read_text()
    assert "://" not in text
    assert text.count("--hash=sha256:") >= len(pinned(lock))


@pytest.mark.parametrize("lock", ["run", "web", "cpu", "uv"])
def test_the_locks_agree_with_each_other(lock: str) -> None:
    everything = pinned("dev")
    assert pinned(lock).items() <= everything.items()


def test_the_emulator_declares_every_package_that_it_imports() -> None:
    brings = {
        "boto3": "moto",
        "dateutil": "python-dateutil",
        "google": "protobuf",
        "modal-proto": "modal",
        "werkzeug": "flask",
    }
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    for path in (ROOT / "emulator").rglob("*.py"):
        for module in imports(path):
            top = module.split(".")[0]
            if top == "pytest" and path.name == "pytest_plugin.py":
                continue  # it is loaded by pytest alone
            if top not in sys.stdlib_module_names | {"emulator"}:
                package = canonicalize_name(top)
                assert brings.get(package, package) in declared, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_ships_the_emulator_alone_and_runs_in_a_fresh_environment(tmp_path: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    build = [uv, "build", "--system-certs", "--quiet", "--wheel", "--python", sys.executable, "--out-dir", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert top == {"emulator", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}

    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    locked = ["--constraint", ROOT / "requirements/dev.txt"]
    install = [uv, "pip", "install", "--system-certs", "--quiet", "--python", venv / "bin/python", *locked, wheel]
    subprocess.run(install, check=True, env={k: v for k, v in os.environ.items() if k != "PIP_FIND_LINKS"})
    app = tmp_path / "hello.py"
    app.write_text(
        "import modal\n\napp = modal.App('hello')\n\n\n@app.function()\ndef hello(name: str) -> None:\n"
        "    print(f'Hello, {name}!')\n"
    )
    command = [venv / "bin/emulator", "exec", "--", venv / "bin/modal", "run", app, "--name", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "Hello, wheel!" in done.stdout
