"""`modal run app.py::prefetch` fills the Volume from a hub, and engines start from it with the hub gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest

from emulator.emulator import Emulator
from tests.functions.fake_hub import COMMIT, FakeHub
from tests.service.deployment import ROOT, deploy, run

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

REPOSITORY = "someone/demo-GGUF"
FILE = "demo-q8_0.gguf"
MODEL = {"id": "fetched", "name": REPOSITORY, "quantization": "q8", "context_length": 2048}
GATED = {"id": "gated", "name": "someone/gated-GGUF", "quantization": "q8"}


def weights() -> bytes:
    (file,) = (ROOT / "functions/demo/model").glob("*.gguf")
    return file.read_bytes()


def prefetch(
    emulator: Emulator, hub: FakeHub, models: Sequence[dict[str, Any]], *arguments: str
) -> subprocess.Popen[str]:
    settings = {
        "MODELS__AVAILABLE_MODELS": json.dumps(models), "MODELS__HF_ENDPOINT": hub.url, "STATE__KIND": "memory",
        "DEPLOY__TARGET": "local",
    }  # fmt: skip
    command = [Path(sys.executable).with_name("modal"), "run", "app.py::prefetch", *arguments]
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **emulator.environment, **settings}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


def downloads(hub: FakeHub) -> int:
    return sum(request == f"GET /{REPOSITORY}/resolve/{COMMIT}/{FILE}" for request in hub.requests)


def test_weights_are_prefetched_by_two_at_once_verified_and_used_with_no_hub_there() -> None:
    content = weights()
    files = {REPOSITORY: {FILE: content}, "someone/gated-GGUF": {"gated-q8_0.gguf": content}}
    with FakeHub(files, tokens={"someone/gated-GGUF": "hf_right"}) as hub, Emulator() as emulator:
        run(emulator, [sys.executable, "-m", "infra.setup"], {"MODELS__AVAILABLE_MODELS": json.dumps([MODEL])})
        both = [prefetch(emulator, hub, [MODEL, GATED]), prefetch(emulator, hub, [MODEL], "--model", "fetched")]
        (refused, told), (done, alone) = map(ended, both)

        assert done == 0, alone
        assert refused == 1, told
        for output in (told, alone):
            assert f"fetched: {REPOSITORY} at {COMMIT}: 1 file, {len(content):,} bytes" in output
            assert f'its revision is not pinned: revision = "{COMMIT}"' in output
        assert "gated: someone/gated-GGUF: is gated; accept its terms on Hugging Face and set HF_TOKEN" in told

        fetched = downloads(hub)
        code, output = ended(prefetch(emulator, hub, [MODEL]))
        assert (code, downloads(hub)) == (0, fetched), output
        assert f"{len(content):,} bytes, 0 of them downloaded, all verified by hash" in output

        hub.failing = True
        asked = len(hub.requests)
        service = deploy(emulator, [MODEL], MODELS__HF_ENDPOINT=hub.url)
        client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
        answer = client.completions.create(model="fetched", prompt="The project", max_tokens=4)
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 4
        assert hub.requests[asked:] == []
