"""SGLang's own parser is the judge: every command line that the configuration can produce parses, and stands up to
what SGLang checks of its arguments before it looks for a GPU. What the settings say of SGLang is what SGLang says."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

from functions.demo import MODEL_FOLDER
from functions.engines.base import Address
from functions.engines.sglang import that_wakes
from functions.engines.sglang_command import Sources, command_line
from infra import sglang_choices as choices
from infra.sglang import Dtype, LoraBackend, LoraEviction, WritePolicy
from infra.sglang_flags import LISTS, PAIRS, SWITCHES, VALUES
from tests.conformance.environments import NotOnThisMachine
from tests.model_examples import examples
from tests.sglang import environment
from tests.sglang.configurations import OF_SGLANG, configurations, values_of

if TYPE_CHECKING:
    from infra.models import Model

JUDGE = Path(__file__).with_name("judge.py")
RESOLVED_EACH = 6
"""One in so many is resolved too: that takes SGLang a fifth of a second."""
SECONDS = 800
NO_GPU = (
    "requires Hopper",
    "is only supported on Hopper",
    "only supports CUDA",
    "requires CUDA",
    "SM100",
    "SM90",
    "non-CUDA",
)
"""Of what SGLang misses here, where it has no GPU."""
OTHER_HARDWARE = {
    "petit_nvfp4", "modelslim", "mxfp_w4a8", "quark", "quark_int4fp8_moe", "quark_mxfp4", "mlx_q4", "mlx_q8",
}  # fmt: skip
"""Quantizations of SGLang's that are made for AMD's, Huawei's and Apple's chips."""
LONGER = {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "1"}
"""The demo's weights stand in for those of models whose contexts are longer."""


def arguments(model: Model, further_file: str = "key.yaml") -> list[str]:
    """The command line of a model, whose weights are the demo's: SGLang reads what kind of model it is."""
    folder = str(MODEL_FOLDER)
    sources = Sources(
        model=folder,
        draft=folder if model.sglang.speculative.draft_model else None,
        adapters=dict.fromkeys(model.sglang.lora.adapters, folder),
    )
    line = command_line(
        model, device=model.device or "cuda", sources=sources, address=Address(host="0.0.0.0", port=8000),
        max_requests=10, further_file=further_file,
    )  # fmt: skip
    return that_wakes(line, snapshot=model.snapshot)[3:]


@pytest.fixture(scope="module")
def models() -> list[Model]:
    return [*examples(), *configurations()]


@pytest.fixture(scope="module")
def verdict(models: list[Model], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All that SGLang says, in one process: it takes half a minute to be imported."""
    try:
        python = environment.python()
    except NotOnThisMachine as reason:
        pytest.skip(f"SGLang cannot be run here: {reason}")
    key_file = tmp_path_factory.mktemp("keys") / "key.yaml"
    key_file.write_text('{"api-key": "ek-1"}', encoding="utf-8")
    lines = [arguments(model, str(key_file)) for model in models]
    resolved = [index for index in range(len(lines)) if index < 8 or index % RESOLVED_EACH == 0]
    done = subprocess.run(
        [python, JUDGE], input=json.dumps({"lines": lines, "resolved": resolved}), capture_output=True, text=True,
        timeout=SECONDS, check=False, env={**os.environ, **environment.ON_A_CPU, **LONGER},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_every_value_is_in_a_configuration_that_is_not_refused(models: list[Model]) -> None:
    had = set().union(*(values_of(model) for model in models))
    for key, values in OF_SGLANG.items():
        missing = [v for v in values if not isinstance(v, dict) and (f"sglang.{key}", str(v)) not in had]
        assert missing == [], key
    pairs = {pair for model in models for pair in combinations(sorted(values_of(model)), 2)}
    assert len(pairs) > 5000


def test_sglangs_own_parser_accepts_every_command_line(models: list[Model], verdict: dict[str, Any]) -> None:
    refused = [(arguments(model), reason) for model, reason in zip(models, verdict["parsed"], strict=True) if reason]
    assert refused == []
    assert len(models) > 300


def test_and_what_it_checks_of_its_arguments_finds_nothing(models: list[Model], verdict: dict[str, Any]) -> None:
    refused = [
        (" ".join(arguments(models[int(index)])[12:]), reason)
        for index, reason in verdict["resolved"].items()
        if reason and not any(word in reason for word in NO_GPU)
    ]
    assert [f"{line}\n    {reason}" for line, reason in refused] == []


def test_the_parser_does_refuse(models: list[Model], verdict: dict[str, Any]) -> None:
    """That it accepts all is no sign of a judge who does not look."""
    kinds = verdict["flags"]
    assert kinds["--tool-call-parser"] == "value"
    assert "qwen99" not in verdict["choices"]["--tool-call-parser"]


@pytest.mark.parametrize(
    ("flag", "ours"),
    [
        ("--tool-call-parser", choices.TOOL_CALL_PARSERS),
        ("--reasoning-parser", choices.REASONING_PARSERS),
        ("--quantization", OTHER_HARDWARE | set(choices.QUANTIZATIONS)),
        ("--speculative-draft-model-quantization", OTHER_HARDWARE | set(choices.QUANTIZATIONS)),
        ("--kv-cache-dtype", {*choices.KV_CACHE_DTYPES, "bf16"}),
        ("--dtype", {*get_args(Dtype), "half", "float"}),
        ("--hicache-write-policy", set(get_args(WritePolicy))),
        ("--lora-eviction-policy", set(get_args(LoraEviction))),
        ("--lora-backend", {*get_args(LoraBackend), "ascend"}),
    ],
)
def test_our_choices_are_sglangs(verdict: dict[str, Any], flag: str, ours: set[str]) -> None:
    assert sorted(ours) == verdict["choices"][flag]


def test_our_attention_backends_are_some_of_sglangs(verdict: dict[str, Any]) -> None:
    assert set(choices.ATTENTION_BACKENDS) <= set(verdict["choices"]["--attention-backend"])


def test_each_flag_is_known_with_what_it_takes(verdict: dict[str, Any]) -> None:
    ours = {
        **dict.fromkeys(SWITCHES, "switch"), **dict.fromkeys(VALUES, "value"), **dict.fromkeys(LISTS, "list"),
        **dict.fromkeys(PAIRS, "pair"), **{f"no-{name}": "pair" for name in PAIRS},
    }  # fmt: skip
    theirs = {name[2:]: kind for name, kind in verdict["flags"].items() if name.startswith("--") and name != "--help"}
    assert ours == theirs


def test_the_least_capabilities_are_those_of_sglangs_methods(verdict: dict[str, Any]) -> None:
    told = {name: least for name, least in verdict["capabilities"].items() if name in choices.QUANTIZATIONS}
    assert len(told) > 15
    ours = {name: choices.QUANTIZATIONS[name] for name in told if name not in choices.CPU_ONLY}
    assert ours == {name: least for name, least in told.items() if name not in choices.CPU_ONLY}
    assert sorted(choices.CPU_QUANTIZATIONS) == verdict["cpu_methods"]
