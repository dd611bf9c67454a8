"""An image's variables and folder, and a Volume between two functions."""

import os
from pathlib import Path

import modal

image = modal.Image.debian_slim().env({"SAYS": "from the image"}).workdir("/srv")
app = modal.App("imaged", image=image)
volume = modal.Volume.from_name("parity-imaged", create_if_missing=True)


@app.function()
def surroundings() -> tuple[str, str]:
    return os.environ["SAYS"], str(Path.cwd())


@app.function(volumes={"/between": volume})
def writes(line: str) -> None:
    Path("/between/line").write_text(line)
    volume.commit()


@app.function(volumes={"/between": volume.read_only()})
def reads() -> str:
    volume.reload()
    return Path("/between/line").read_text()
