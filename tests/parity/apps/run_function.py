"""An image with what a function has made."""

import os
from pathlib import Path

import modal


def download(name: str, times: int = 1) -> None:
    print("downloading", name)
    folder = Path("/models")
    folder.mkdir()
    (folder / name).write_text(os.environ["TOKEN"] * times)
    (folder / "latest").symlink_to(name)
    Path("/root/beside").write_text("the app")


def fail() -> None:
    print("about to fail")
    raise ValueError("no such model")


base = modal.Image.debian_slim()
image = base.run_function(
    download, args=["weights"], kwargs={"times": 2}, secrets=[modal.Secret.from_dict({"TOKEN": "t"})]
)
if os.environ.get("FAILS"):
    image = base.run_function(fail)
app = modal.App("run-function", image=image.env({"AFTER": "it"}))


@app.function()
def look() -> list[str]:
    paths = [Path("/models/weights"), Path("/models/latest"), Path("/root/beside")]
    return [path.read_text() for path in paths] + [os.environ["AFTER"], os.environ.get("TOKEN", "none")]


@app.local_entrypoint()
def main() -> None:
    print(look.remote())
