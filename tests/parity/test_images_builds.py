"""What is said while images are built, what a build that fails does, and what is not built."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from emulator.emulator import Emulator
from emulator.images.pythons import find
from tests.parity import kit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parity.kit import Target

APP = """
import modal

app = modal.App("sample", image={image})

@app.function()
def f() -> str:
    return "ran"

@app.local_entrypoint()
def main():
    print(f.remote())
"""


def write(folder: Path, image: str) -> str:
    (folder / "sample.py").write_text(APP.format(image=image))
    return str(folder / "sample.py")


@pytest.mark.row("Images", "a build that fails")
@pytest.mark.row("Images", "what a build says")
@pytest.mark.slow
def test_a_failing_build_fails_the_deploy_with_its_log(target: Target, tmp_path: Path) -> None:
    file = write(tmp_path, 'modal.Image.debian_slim().pip_install("no-such-package", extra_options="--no-index")')
    failed = target.cli("deploy", "--name", target.unique("failing"), file)
    assert failed.returncode == 1
    said = failed.stdout + failed.stderr
    assert "RUN python -m pip install no-such-package --no-index" in said
    assert "No matching distribution found for no-such-package" in said
    assert "Image build for im-" in said
    assert "failed" in said


@pytest.mark.row("Images", "`Image.poetry_install_from_file`")
def test_poetry_is_refused_by_name(target: Target, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.poetry]\n")
    project = str(tmp_path / "pyproject.toml")
    image = f"modal.Image.debian_slim().poetry_install_from_file({project!r}, ignore_lockfile=True)"
    refused = target.cli("deploy", "--name", target.unique("poetic"), write(tmp_path, image))
    assert refused.returncode == 1
    assert "poetry_install_from_file" in refused.stdout + refused.stderr


UNBUILT = """
import os
import modal

app = modal.App("unbuilt")
base = modal.Image.debian_slim()
registry = modal.Image.from_registry("nvidia/cuda:12.4.0-devel-ubuntu22.04", add_python="%s")

@app.function(image=modal.Image.from_dockerfile("Dockerfile"))
def dockerfile() -> str:
    return os.environ["SAID"]

@app.function(image=base.run_commands("touch /made-by-a-command"))
def run() -> bool:
    return os.path.exists("/made-by-a-command")

@app.function(image=registry)
def of_registry(): ...

@app.function(image=base.apt_install("ffmpeg"))
def apt(): ...

@app.function(image=modal.Image.micromamba().micromamba_install("cudatoolkit"))
def mamba(): ...
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.emulator_only("Modal builds these")
@pytest.mark.row("Images", "`Image.from_registry`")
@pytest.mark.row("Images", "`Image.from_dockerfile`")
@pytest.mark.row("Images", "`Image.apt_install`")
@pytest.mark.row("Images", "`Image.micromamba`, `micromamba_install`")
@pytest.mark.row("Images", "`Image.debian_slim`")
@pytest.mark.row("Images", "`Image.run_commands`")
def test_what_needs_an_operating_system_of_its_own_is_said_and_the_app_runs(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "Dockerfile").write_text("FROM ubuntu:24.04\nENV SAID=so\nRUN make\n")
    (tmp_path / "unbuilt.py").write_text(UNBUILT % "{}.{}".format(*sys.version_info))
    with Emulator(log=lambda line: said.append(line.text)) as emulator:
        target = kit.for_emulator(emulator)
        for _ in range(2):
            deployed = target.cli("deploy", "--name", "unbuilt", "unbuilt.py", cwd=tmp_path)
            assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        app = kit.DeployedApp("unbuilt", target)
        assert app.function("dockerfile").remote() == "so"
        assert app.function("run").remote() is False
        target.client.close()
    for what in (
        "nvidia/cuda:12.4.0-devel-ubuntu22.04 is not pulled",
        "ubuntu:24.04 is not pulled",
        "install -y ffmpeg",
    ):
        assert len([line for line in said if what in line]) == 1, what
    for what in ("micromamba install cudatoolkit", "touch /made-by-a-command", "make"):
        assert [line for line in said if what in line], what


COMMANDED = """
import os
import subprocess
import modal

image = (
    modal.Image.debian_slim()
    .env({"GREETING": "hello"})
    .run_commands("mkdir -p /srv/made && echo $GREETING $TOKEN > /srv/made/greeting", env={"TOKEN": "t"})
    .workdir("/srv/made")
    .run_commands(
        "cat greeting greeting > twice",
        "printf '#!/bin/sh\\\\necho made' > /usr/local/bin/made-here && chmod +x /usr/local/bin/made-here",
    )
)
if os.environ.get("FAILS"):
    image = image.run_commands("echo about to fail; exit 3")
app = modal.App("commanded", image=image)

@app.function()
def look() -> tuple[str, str]:
    return open("twice").read(), subprocess.run(["made-here"], capture_output=True, text=True).stdout

@app.local_entrypoint()
def main():
    print(look.remote())
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.emulator_only("it starts an emulator that runs them")
@pytest.mark.row("Images", "`Image.run_commands`")
def test_shell_commands_are_run_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "commanded.py").write_text(COMMANDED)
    with Emulator(run_commands=True) as emulator:
        target = kit.for_emulator(emulator)
        first = target.cli("run", "commanded.py", cwd=tmp_path)
        assert "('hello t\\nhello t\\n', 'made\\n')" in first.stdout, first.stdout + first.stderr
        assert "Building image" in first.stdout
        second = target.cli("run", "commanded.py", cwd=tmp_path)
        assert "('hello t\\nhello t\\n', 'made\\n')" in second.stdout
        assert "Building image" not in second.stdout
        failed = target.cli("run", "commanded.py", cwd=tmp_path, env={"FAILS": "1"})
        assert failed.returncode == 1
        assert "about to fail" in failed.stdout
        assert "ended with status 3" in failed.stdout
        target.client.close()


OTHER = """
import sys
import modal

image = modal.Image.debian_slim(python_version="{series}").uv_pip_install("cowsay")
app = modal.App("other-python", image=image)

@app.function()
def look() -> str:
    import cowsay
    return "%d.%d" % sys.version_info[:2]

@app.local_entrypoint()
def main():
    print("it is", look.remote())
"""


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.row("Images", "`Image.debian_slim`")
@pytest.mark.row("Images", "`Image.uv_pip_install`")
def test_another_python_of_this_machine_and_a_package_from_the_registry(target: Target, tmp_path: Path) -> None:
    own = "{}.{}".format(*sys.version_info)
    others = [series for series in ("3.12", "3.13", "3.11") if series != own and find(series) is not None]
    if not others:
        pytest.skip("there is no other Python on this machine")
    (tmp_path / "other.py").write_text(OTHER.format(series=others[0]))
    done = target.cli("run", "other.py", cwd=tmp_path, timeout=120)
    assert f"it is {others[0]}" in done.stdout, done.stdout + done.stderr
