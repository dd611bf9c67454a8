"""What SGLang could not do is refused where the configuration is read, each with its reason."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from infra.gpus import GPUS, split
from infra.settings import Deploy, Models, Settings
from infra.sglang_flags import LISTS, PAIRS, SWITCHES, VALUES
from infra.sglang_taken import TAKEN

DRAFTED = {"algorithm": "EAGLE3", "draft_model": "org/draft"}
ON_A_CPU = {"device": "cpu", "engine": "sglang"}
ADAPTERS = {"fr": {"name": "org/fr"}, "de": {"name": "org/de"}}


def settings(model: dict[str, Any], **deploy: Any) -> Settings:
    return Settings.model_validate(
        {"models": {"available_models": [{"id": "m", "name": "org/m", **model}]}, "deploy": deploy}
    )


def sglang(**options: Any) -> dict[str, Any]:
    return {"sglang": options}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ({"gpu": "V100"}, "Modal has no 'V100'"),
        ({"gpu": "A10:8"}, "expected a count of 1 to 4"),
        ({"gpu": "H100:two"}, "expected a count of 1 to 8"),
        ({"gpu": "L4:2", **sglang(tensor_parallel=4)}, "4 × data_parallel 1 is not the number of GPUs, 2"),
        ({"gpu": "L4:4", **sglang(tensor_parallel=3)}, "3 × data_parallel 1 is not the number of GPUs, 4"),
        ({"gpu": "L4:4", **sglang(tensor_parallel=2)}, "expected 4, or another count"),
        ({"gpu": "L4:4", **sglang(data_parallel=3)}, "cannot share 4 GPUs evenly"),
        ({"gpu": "L4:4", **sglang(expert_parallel=3)}, "3 does not divide tensor_parallel, 4"),
        ({"gpu": "L4:4", **sglang(attention_data_parallel=3)}, "3 does not divide tensor_parallel, 4"),
        ({"gpu": "L4:4", **sglang(attention_data_parallel=2, data_parallel=2)}, "for one copy of the model"),
        (sglang(quantization="awk"), "SGLang has no 'awk'; did you mean 'awq'"),
        (sglang(quantization="gptq"), "on the CPU alone; expected gptq_marlin"),
        (sglang(quantization="quark"), "SGLang has no 'quark'"),
        (sglang(attention_backend="flashinfr"), "did you mean 'flashinfer'"),
        (sglang(kv_cache_dtype="fp8"), "SGLang has no 'fp8'"),
        (sglang(tool_call_parser="qwen3"), "sglang.tool_call_parser: SGLang has no 'qwen3'"),
        (sglang(reasoning_parser="qwen25"), "sglang.reasoning_parser: SGLang has no 'qwen25'"),
        ({"gpu": "T4", "quantization": "q8"}, "fp8 needs compute capability 8.0, and T4 has 7.5"),
        ({"gpu": "T4", **sglang(quantization="awq_marlin")}, "awq_marlin needs compute capability 8.0"),
        ({"gpu": "A100", **sglang(quantization="w8a8_fp8")}, "needs compute capability 8.9, and A100 has 8.0"),
        ({"gpu": "H100", **sglang(quantization="nvfp4_online")}, "needs compute capability 10.0"),
        ({"gpu": "T4", "quantization": "bf16"}, "T4 has no bfloat16"),
        ({"gpu": "B200", **sglang(attention_backend="fa3")}, "fa3 runs on compute capability 8.x, 9.x"),
        ({"gpu": "L4", **sglang(attention_backend="trtllm_mha")}, "L4 has 8.9"),
        ({"gpu": "H100", **sglang(attention_backend="trtllm_mla")}, "runs on compute capability 10.x, 12.x"),
        ({"gpu": "H100", **sglang(kv_cache_dtype="mxfp8")}, "mxfp8 needs compute capability 10.0"),
        (sglang(attention_backend="intel_amx"), "intel_amx is the CPU's"),
        (sglang(speculative={"algorithm": "EAGLE"}), "EAGLE drafts with another model"),
        (sglang(speculative={"algorithm": "STANDALONE"}), "STANDALONE drafts with another model"),
        (sglang(speculative={**DRAFTED, "algorithm": "NEXTN"}), "NEXTN drafts without another model"),
        (sglang(speculative={**DRAFTED, "algorithm": "NGRAM"}), "NGRAM drafts without another model"),
        (sglang(speculative={"draft_model": "org/draft"}), "has no algorithm"),
        (sglang(speculative={**DRAFTED, "num_steps": 3}), "together, or none of them"),
        (
            sglang(speculative={**DRAFTED, "num_steps": 3, "eagle_topk": 1, "num_draft_tokens": 8}),
            "with eagle_topk = 1, expected num_steps + 1",
        ),
        (sglang(speculative={**DRAFTED, "ngram_depth": 4}), "are of NGRAM"),
        (sglang(speculative={"algorithm": "NGRAM", "num_steps": 3}), "NGRAM has ngram_breadth"),
        (sglang(speculative={"algorithm": "NGRAM"}, attention_backend="flex_attention"), "does not speculate"),
        (
            {"gpu": "L4:2", **sglang(speculative={"algorithm": "NGRAM"}, attention_data_parallel=2)},
            "SGLang has none with NGRAM",
        ),
        (
            {
                "gpu": "H100",
                **sglang(
                    speculative={**DRAFTED, "num_steps": 3, "eagle_topk": 4, "num_draft_tokens": 8},
                    attention_backend="trtllm_mha",
                ),
            },
            "trtllm_mha takes 1 alone",
        ),
        (
            sglang(speculative={"algorithm": "STANDALONE", "draft_model": "d"}, lora={"adapters": ADAPTERS}),
            "STANDALONE takes no adapters",
        ),
        (sglang(lora={"adapters": ADAPTERS, "max_per_batch": 1, "max_loaded": 1}), "expected at least the higher"),
        (sglang(lora={"backend": "triton"}), "has no adapters"),
        (sglang(hierarchical_cache={"enabled": True}, prefix_cache=False), "is part of the prefix cache"),
        (sglang(hierarchical_cache={"ratio": 2.0}), "is not enabled"),
        (sglang(hierarchical_cache={"enabled": True, "ratio": 2.0, "size_gb": 8}), "at most one is used"),
        (sglang(chunked_prefill_size=0), "expected -1"),
        ({"embedding": True, **sglang(reasoning_parser="qwen3")}, "the model embeds"),
        ({"embedding": True, **sglang(speculative={"algorithm": "NGRAM"})}, "the model embeds"),
        ({"embedding": True, **sglang(lora={"adapters": ADAPTERS})}, "the model embeds"),
        (sglang(flags={"tp-size": 2}), "expected sglang.tensor_parallel"),
        (sglang(flags={"api-key": "x"}), "has a key of its own"),
        (sglang(flags={"port": 1}), "listens where Modal sends its requests"),
        (sglang(flags={"page-sizes": 1}), "did you mean 'page-size'"),
        (sglang(flags={"enable-mixed-chunk": "yes"}), "expected true or false"),
        (sglang(flags={"page-size": True}), "expected a number or a text"),
        (sglang(flags={"cuda-graph-bs-decode": 4}), "expected a list"),
        (sglang(flags={"cuda-graph-bs-decode": []}), "expected a list of one value or more"),
        (sglang(flags={"encoder-urls": ["http://a", "--port"]}), "none of which begins with a dash"),
        ({"engine": "llamacpp", **sglang(tool_call_parser="qwen25")}, "the model is served by llamacpp"),
        ({"device": "cpu", **sglang(prefix_cache=False)}, "the model is served by llamacpp"),
        ({"device": "metal", "engine": "sglang"}, "not run on Metal"),
        ({**ON_A_CPU, **sglang(quantization="gguf")}, "SGLang has no gguf on the CPU"),
        ({**ON_A_CPU, "path": "/m.GGUF"}, "reads no GGUF on the CPU"),
        ({**ON_A_CPU, **sglang(attention_backend="fa3")}, "fa3 needs a GPU"),
        ({**ON_A_CPU, **sglang(tensor_parallel=2)}, "every parallel size to be 1"),
        (
            {"device": "cpu", "engine": "sglang", **sglang(hierarchical_cache={"enabled": True})},
            "in its memory already",
        ),
    ],
)
def test_what_sglang_could_not_do_is_refused_with_the_reason(model: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(model)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"gpu": "h100:8", **sglang(data_parallel=2, expert_parallel=4)},
        {"gpu": "H100:8", **sglang(attention_data_parallel=8, expert_parallel=8)},
        {"gpu": "T4", "quantization": "q4"},
        {**ON_A_CPU, **sglang(attention_backend="torch_native", quantization="fp8")},
        sglang(speculative={**DRAFTED, "num_steps": 3, "eagle_topk": 1, "num_draft_tokens": 4}),
        sglang(flags={"enable-mixed-chunk": True, "schedule-policy": "lpm", "cuda-graph-bs-decode": [1, 2]}),
        {"device": "cpu", "local_engine": "sglang", **sglang(prefix_cache=False)},
    ],
)
def test_what_it_can_do_is_not(model: dict[str, Any]) -> None:
    assert settings(model)


def test_a_cloud_model_of_sglang_may_be_served_by_another_engine_on_this_machine() -> None:
    model = {"gpu": "H100", **sglang(attention_backend="fa3")}
    assert settings(model, target="local")
    with pytest.raises(ValidationError, match="fa3 needs a GPU"):
        settings({**model, "local_engine": "sglang"}, target="local")


def test_each_flag_takes_one_kind_of_value_and_what_is_taken_is_a_flag() -> None:
    kinds = [SWITCHES, PAIRS, VALUES, LISTS]
    assert len(frozenset().union(*kinds)) == sum(len(kind) for kind in kinds)
    assert set(TAKEN) <= frozenset().union(*kinds)


def test_gpus_are_named_in_any_case() -> None:
    assert [split(gpu) for gpu in ("L4", "h100:8", "A100-80GB:2")] == [("L4", 1), ("H100", 8), ("A100-80GB", 2)]
    assert all(split(name)[0] == name for name in GPUS)


@pytest.mark.parametrize(
    ("target", "most", "fits"), [(5, None, True), (10, None, True), (11, None, False), (11, 12, True)]
)
def test_a_container_is_not_meant_to_have_more_than_it_takes(target: float, most: int | None, fits: bool) -> None:
    model = {"id": "m", "name": "n", "scaling": {"target_concurrency": target, "max_concurrency": most}}
    if fits:
        models = Models.model_validate({"available_models": [model]})
        assert models.available_models[0].concurrency(models) == (most or 10)
        return
    with pytest.raises(ValidationError, match="above what a container takes"):
        Models.model_validate({"available_models": [model]})


def test_a_deploy_to_modal_and_a_local_one_have_the_same_settings() -> None:
    assert Settings(deploy=Deploy(target="local")).models == Settings().models
