"""What of a model's settings SGLang could not do, told where the app is deployed. Pure.

Each objection is what SGLang 0.5.23 itself says of the same command line, or finds only once the weights are on a GPU;
the sources are its own: `sglang.srt.arg_groups` and the kernels that it chooses.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from infra import gpus
from infra.sglang import SGLang, tensor_parallel
from infra.sglang_choices import (
    ATTENTION_BACKENDS,
    CPU_ATTENTION_BACKENDS,
    CPU_ONLY,
    CPU_QUANTIZATIONS,
    DRAFTED,
    KV_CACHE_DTYPES,
    QUANTIZATIONS,
    REASONING_PARSERS,
    SELF_DRAFTED,
    TOOL_CALL_PARSERS,
)
from infra.sglang_flags import LISTS, PAIRS, SWITCHES, VALUES
from infra.sglang_taken import TAKEN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from infra.models import Device, Model, Models, Target
    from infra.sglang import FlagValue

QUANTIZATION_METHODS = {"q8": "fp8"}
"""The methods of a model's `quantization` that SGLang is told: `q4` says its checkpoint itself, `bf16` is a dtype."""


def method_of(model: Model) -> str | None:
    """The quantization that SGLang is told, if any."""
    return model.sglang.quantization or QUANTIZATION_METHODS.get(model.quantization or "")


def objections_anywhere(model: Model, models: Models, *, target: Target) -> Iterator[str]:
    """What stands against serving `model` in the cloud, or on `target`: what is wrong there is known before."""
    here = {where: model.engine_for(models, where) for where in ("modal", target)}
    served = {model.runs_on(models, where) for where, engine in here.items() if engine == "sglang"}
    if not served and model.local_engine != "sglang" and model.sglang != SGLang():
        yield f"sglang: is of SGLang, and the model is served by {here['modal']}; expected the table to be absent"
    for device in sorted(served):
        yield from objections(model, device=device)


def objections(model: Model, *, device: Device) -> Iterator[str]:
    """What stands against serving `model` by SGLang: each names the key and what was expected. None: nothing known."""
    yield from _names(model.sglang)
    yield from _kind(model)
    yield from _cache(model.sglang)
    yield from _lora(model)
    yield from _speculation(model.sglang)
    yield from _flags(model.sglang.flags)
    if device == "metal":
        yield 'device: SGLang is not run on Metal here; expected engine = "llamacpp", or cuda or cpu'
    elif device == "cpu":
        yield from _cpu(model)
    else:
        yield from _gpus(model)


def _names(sglang: SGLang) -> Iterator[str]:
    """Names that SGLang does not know."""
    yield from _unknown("quantization", sglang.quantization, QUANTIZATIONS)
    yield from _unknown("speculative.draft_quantization", sglang.speculative.draft_quantization, QUANTIZATIONS)
    yield from _unknown("attention_backend", sglang.attention_backend, ATTENTION_BACKENDS)
    yield from _unknown("kv_cache_dtype", sglang.kv_cache_dtype, KV_CACHE_DTYPES)
    yield from _unknown("tool_call_parser", sglang.tool_call_parser, TOOL_CALL_PARSERS)
    yield from _unknown("reasoning_parser", sglang.reasoning_parser, REASONING_PARSERS)


def _unknown(key: str, value: str | None, known: Collection[str]) -> Iterator[str]:
    if value is not None and value not in known:
        near = difflib.get_close_matches(value, known, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        yield f"sglang.{key}: SGLang has no {value!r}; {meant}expected one of {', '.join(sorted(known))}"


def _kind(model: Model) -> Iterator[str]:
    """What an embedding model has no use for."""
    sglang = model.sglang
    if not model.embedding:
        return
    for key, set_ in (
        ("tool_call_parser", sglang.tool_call_parser), ("reasoning_parser", sglang.reasoning_parser),
        ("speculative", sglang.speculative.algorithm), ("lora", sglang.lora.adapters or None),
    ):  # fmt: skip
        if set_ is not None:
            yield f"sglang.{key}: is of answers, and the model embeds; expected it to be absent"


def _cache(sglang: SGLang) -> Iterator[str]:
    cache = sglang.hierarchical_cache
    if cache.enabled and not sglang.prefix_cache:
        yield "sglang.hierarchical_cache: is part of the prefix cache; expected prefix_cache = true, or it disabled"
    if not cache.enabled and (cache.ratio, cache.size_gb, cache.write_policy) != (None, None, None):
        yield "sglang.hierarchical_cache: is told how, and is not enabled; expected enabled = true"
    if sglang.chunked_prefill_size == 0:
        yield "sglang.chunked_prefill_size: expected -1 (whole prompts) or tokens, got 0"


def _lora(model: Model) -> Iterator[str]:
    lora, speculative = model.sglang.lora, model.sglang.speculative
    if not lora.adapters:
        if (lora.max_loaded, lora.backend, lora.eviction, lora.max_per_batch) != (None, None, None, 8):
            yield "sglang.lora: is told how, and has no adapters; expected adapters"
        return
    if lora.max_loaded is not None and lora.max_loaded < max(lora.max_per_batch, len(lora.adapters)):
        yield (
            f"sglang.lora.max_loaded: {lora.max_loaded} is below max_per_batch ({lora.max_per_batch}) or the number of "
            f"adapters ({len(lora.adapters)}); expected at least the higher of them"
        )
    if speculative.algorithm == "STANDALONE":
        yield "sglang.speculative.algorithm: STANDALONE takes no adapters; expected EAGLE, EAGLE3, NEXTN or NGRAM"


def _speculation(sglang: SGLang) -> Iterator[str]:
    told = sglang.speculative
    algorithm, numbers = told.algorithm, (told.num_steps, told.eagle_topk, told.num_draft_tokens)
    if algorithm is None:
        if told.model_dump(exclude_none=True):
            yield "sglang.speculative: is told how, and has no algorithm; expected algorithm"
        return
    if algorithm in DRAFTED and told.draft_model is None:
        yield f"sglang.speculative.draft_model: {algorithm} drafts with another model; expected its repository"
    if algorithm in SELF_DRAFTED and (told.draft_model or told.draft_revision or told.draft_quantization):
        yield f"sglang.speculative.draft_model: {algorithm} drafts without another model; expected it to be absent"
    if algorithm == "NGRAM":
        if told.num_steps is not None or told.eagle_topk is not None:
            yield "sglang.speculative: NGRAM has ngram_breadth and num_draft_tokens; expected no num_steps, eagle_topk"
    else:
        if told.ngram_breadth is not None or told.ngram_depth is not None:
            yield f"sglang.speculative: ngram_breadth and ngram_depth are of NGRAM, and it is {algorithm}"
        if None in numbers and numbers != (None, None, None):
            yield "sglang.speculative: expected num_steps, eagle_topk and num_draft_tokens together, or none of them"
        if told.eagle_topk == 1 and told.num_steps and told.num_draft_tokens != told.num_steps + 1:
            yield "sglang.speculative.num_draft_tokens: with eagle_topk = 1, expected num_steps + 1"
        if told.eagle_topk is not None and told.eagle_topk > 1 and sglang.attention_backend == "trtllm_mha":
            yield "sglang.speculative.eagle_topk: the attention backend trtllm_mha takes 1 alone"
    if sglang.attention_backend == "flex_attention":
        yield "sglang.attention_backend: flex_attention does not speculate; expected another one, or no speculation"
    if algorithm in ("NGRAM", "STANDALONE") and sglang.attention_data_parallel > 1:
        yield f"sglang.attention_data_parallel: SGLang has none with {algorithm}; expected 1"


def _flags(flags: Mapping[str, FlagValue]) -> Iterator[str]:
    """What of the further flags SGLang does not have, or the service sets itself."""
    known = SWITCHES | PAIRS | VALUES | LISTS
    for name, value in flags.items():
        if name in TAKEN:
            yield f"sglang.flags: {name!r} is the service's to set: {TAKEN[name]}"
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            yield f"sglang.flags: SGLang has no flag {name!r}{meant}"
        if name in SWITCHES | PAIRS and not isinstance(value, bool):
            yield f"sglang.flags: {name!r} has no value; expected true or false"
        if name in VALUES and isinstance(value, bool | tuple):
            yield f"sglang.flags: {name!r} has one value; expected a number or a text"
        if name in LISTS and not isinstance(value, tuple):
            yield f"sglang.flags: {name!r} has any number of values; expected a list"
        if value == () or (isinstance(value, tuple) and any(isinstance(one, str) and one[:1] == "-" for one in value)):
            yield f"sglang.flags: {name!r}: expected a list of one value or more, none of which begins with a dash"


def _cpu(model: Model) -> Iterator[str]:
    """SGLang on the CPU: one process, few methods, nothing of a GPU's."""
    sglang, method = model.sglang, method_of(model)
    if method in QUANTIZATIONS and method not in CPU_QUANTIZATIONS:
        there = ", ".join(sorted(CPU_QUANTIZATIONS))
        yield f"sglang.quantization: SGLang has no {method} on the CPU; expected one of {there}"
    backend = sglang.attention_backend
    if backend in ATTENTION_BACKENDS and backend not in CPU_ATTENTION_BACKENDS:
        yield f"sglang.attention_backend: {backend} needs a GPU; expected torch_native or intel_amx"
    if sglang.hierarchical_cache.enabled:
        yield "sglang.hierarchical_cache: on the CPU the prefix cache is in its memory already; expected it disabled"
    sizes = (sglang.tensor_parallel or 1, sglang.data_parallel, sglang.attention_data_parallel, sglang.expert_parallel)
    if max(sizes) > 1:
        yield "sglang.tensor_parallel: the CPU is one device here; expected every parallel size to be 1"
    if model.path is not None and model.path.lower().endswith(".gguf"):
        yield 'path: SGLang reads no GGUF on the CPU; expected a folder of safetensors, or engine = "llamacpp"'


def _gpus(model: Model) -> Iterator[str]:
    """What the GPUs cannot do, or are rented for and not used."""
    try:
        name, count = gpus.split(model.gpu)
    except ValueError as error:
        yield str(error)
        return
    gpu, sglang, method = gpus.GPUS[name], model.sglang, method_of(model)
    yield from _shares(sglang, count)
    if method in CPU_ONLY:
        yield f"sglang.quantization: SGLang has {method} on the CPU alone; expected gptq_marlin, or it to be absent"
    needed = QUANTIZATIONS.get(method or "", 0)
    if gpu.capability < needed:
        has = f"{name} has {gpu.capability / 10}"
        yield f"sglang.quantization: {method} needs compute capability {needed / 10}, and {has}"
    if sglang.kv_cache_dtype == "mxfp8" and gpu.capability < 100:
        yield f"sglang.kv_cache_dtype: mxfp8 needs compute capability 10.0, and {name} has {gpu.capability / 10}"
    majors = ATTENTION_BACKENDS.get(sglang.attention_backend or "", ())
    if majors and gpu.capability // 10 not in majors:
        yield (
            f"sglang.attention_backend: {sglang.attention_backend} runs on compute capability "
            f"{', '.join(f'{major}.x' for major in majors)}, and {name} has {gpu.capability / 10}"
        )
    if gpu.capability < 80 and (sglang.dtype == "bfloat16" or model.quantization == "bf16"):
        yield f"quantization: {name} has no bfloat16 (compute capability 8.0 or more has); expected another GPU"
    if sglang.attention_backend == "intel_amx":
        yield "sglang.attention_backend: intel_amx is the CPU's; expected another one"


def _shares(sglang: SGLang, count: int) -> Iterator[str]:
    """Whether the parallel sizes fit each other and the number of GPUs."""
    if count % sglang.data_parallel:
        yield f"sglang.data_parallel: {sglang.data_parallel} copies cannot share {count} GPUs evenly"
        return
    tensor = tensor_parallel(sglang, count)
    if tensor * sglang.data_parallel != count:
        yield (
            f"sglang.tensor_parallel: {tensor} × data_parallel {sglang.data_parallel} is not the number of GPUs, "
            f"{count}; expected {count // sglang.data_parallel}, or another count in gpu"
        )
    for key, size in (
        ("attention_data_parallel", sglang.attention_data_parallel), ("expert_parallel", sglang.expert_parallel),
    ):  # fmt: skip
        if tensor % size:
            yield f"sglang.{key}: {size} does not divide tensor_parallel, {tensor}"
    if sglang.attention_data_parallel > 1 and sglang.data_parallel > 1:
        yield "sglang.attention_data_parallel: SGLang has it for one copy of the model; expected data_parallel = 1"
