"""Images with packages that are nowhere but in wheels beside the app: `WHEELS` says where."""

import os
import subprocess
import sys
from importlib.metadata import distributions

import modal

wheels = modal.Image.debian_slim().add_local_dir(os.environ.get("WHEELS", "/wheels"), "/wheels", copy=True)
one = wheels.pip_install("tiny-one==1.0", find_links="/wheels", extra_options="--no-index")
both = one.uv_pip_install("tiny-two", find_links="/wheels", extra_options="--no-index").env({"AFTER": "the installs"})

app = modal.App("installs", image=one)

with one.imports():
    import tiny_one


def installed() -> list[str]:
    return sorted(found.name for found in distributions() if found.name.startswith("tiny"))


@app.function()
def surroundings() -> tuple[str, list[str], list[str]]:
    """A package's version, the tiny ones that are there, and those that only the machine that serves this may have."""
    others = []
    for name in ("pytest", "fastapi", "boto3"):
        try:
            __import__(name)
            others.append(name)
        except ImportError:
            pass
    return tiny_one.VERSION, installed(), others


@app.function()
def commands() -> list[str]:
    """What other programs of the container get: a command of a package's, and a Python with its packages."""
    code = "import modal, tiny_one; print(tiny_one.VERSION)"
    words: list[list[str]] = [["tiny"], ["python", "-c", code], [sys.executable, "-c", code]]
    return [subprocess.run(one, capture_output=True, text=True, check=True).stdout.strip() for one in words]


@app.function(image=both)
def of_both() -> tuple[list[str], str]:
    return installed(), os.environ["AFTER"]


@app.local_entrypoint()
def main() -> None:
    image = one.build(app)
    same = modal.Image.from_id(image.object_id)
    print("built", image.object_id == same.object_id, surroundings.remote()[0])
