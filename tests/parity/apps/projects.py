"""Images whose packages are listed in files, or in Dockerfile commands: `WHEELS` says where these are."""

import os
from importlib.metadata import distributions
from pathlib import Path

import modal

WHEELS = Path(os.environ.get("WHEELS", "/wheels"))
wheels = modal.Image.debian_slim().add_local_dir(WHEELS, "/wheels", copy=True)
from_wheels = {"find_links": "/wheels", "extra_options": "--no-index"}

app = modal.App("projects")


def installed() -> list[str]:
    return sorted(found.name for found in distributions() if found.name.startswith("tiny"))


@app.function(image=wheels.pip_install_from_requirements(str(WHEELS / "requirements.txt"), **from_wheels))
def of_requirements() -> list[str]:
    return installed()


@app.function(
    image=wheels.pip_install_from_pyproject(
        str(WHEELS / "pyproject.toml"), optional_dependencies=["more"], **from_wheels
    )
)
def of_project() -> list[str]:
    return installed()


@app.function(
    image=wheels.pip_install("tiny-three", **from_wheels).uv_sync(
        str(WHEELS), frozen=False, extra_options="--no-index --find-links /wheels"
    )
)
def synced() -> list[str]:
    return installed()


@app.function(
    image=wheels.dockerfile_commands(
        "ARG VERSION=1.0",
        "ENV SAYS=hello PATH=/more:$PATH",
        "WORKDIR /srv",
        "RUN pip install --no-index -f /wheels tiny-one==$VERSION"
        " && pip install /wheels/tiny_three-0.3-py3-none-any.whl",
    )
)
def commanded() -> tuple[list[str], str, str]:
    import subprocess

    said = subprocess.run(["tiny"], capture_output=True, text=True, check=True).stdout.strip()
    return installed(), f"{os.environ['SAYS']} {said}", str(Path.cwd())
