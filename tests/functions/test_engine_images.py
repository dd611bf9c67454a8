"""What an engine's container imports is in its image: the emulator, where all packages lie together, would not tell."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"{name} is in no engine's image")

import modal
ABSENT = set(sys.argv[2].split(","))
sys.meta_path.insert(0, Absent())
__import__(sys.argv[1])
"""
MODULES = {"python-dotenv": "dotenv", "hf-xet": "hf_xet", "opentelemetry-api": "opentelemetry"}


def modules(lock: str) -> set[str]:
    """What the packages of a lock are imported as."""
    names = re.findall(r"^([a-z0-9][a-z0-9._-]*)==", (ROOT / "requirements" / lock).read_text("utf-8"), re.MULTILINE)
    return {MODULES.get(name, name.replace("-", "_")) for name in names}


def imports(module: str, absent: set[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CODE, module, ",".join(sorted(absent))]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["functions.servers", "functions.prefetching"])
def test_a_container_of_llama_cpp_or_of_the_prefetch_imports_nothing_that_only_the_web_container_has(
    module: str,
) -> None:
    absent = modules("web.txt") - modules("cpu.txt")
    assert {"orjson", "httptools", "starlette"} <= absent
    done = imports(module, absent)
    assert done.returncode == 0, done.stderr
