"""`web_server` functions, whose runtime looks for an `eth0` of the container's own."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from typing import TYPE_CHECKING

import pytest

from emulator.containers.isolation import detect
from emulator.emulator import Emulator
from tests.emulator.heart_kit import modal, write_app

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import subprocess
import modal

app = modal.App("pages")

@app.function(secrets=[modal.Secret.from_dict({"TEXT": "hello from a child"})])
@modal.web_server(8000, startup_timeout=20)
def pages():
    make = "p=$(mktemp -d); printf '%s' \\"$TEXT\\" > $p/index.html; exec python -m http.server 8000 -d $p"
    subprocess.Popen(make, shell=True)
"""


def test_a_web_server_function_answers_from_the_child_that_it_started(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not asyncio.run(detect(tmp_path_factory.mktemp("probe"))).private_network:
        pytest.skip("this machine gives containers no network of their own")
    write_app(tmp_path, APP)
    with Emulator() as emulator:
        deployed = modal(emulator, "deploy", "app.py", cwd=tmp_path)
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr
        address = re.search(r"http://127\.0\.0\.1:\d+", deployed.stdout)
        assert address, deployed.stdout
        with urllib.request.urlopen(address.group() + "/index.html", timeout=30) as answer:
            assert answer.read() == b"hello from a child"
