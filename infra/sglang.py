"""How SGLang serves a model: the table `sglang` of a model.

What is not set is left to SGLang, which decides much by the model and the GPU. `infra.sglang_checks` says what does not
go together, `functions.engines.sglang` makes the command line of it.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from infra.section import Section

Share = Annotated[float, Field(gt=0, lt=1)]
Parallel = Annotated[int, Field(ge=1, le=64)]
SpeculativeAlgorithm = Literal["EAGLE", "EAGLE3", "STANDALONE", "NEXTN", "NGRAM"]
LoraBackend = Literal["csgmv", "triton", "triton_v2", "torch_native"]
LoraEviction = Literal["lru", "fifo"]
WritePolicy = Literal["write_back", "write_through", "write_through_selective"]
Dtype = Literal["auto", "float16", "bfloat16", "float32"]
FlagValue = bool | int | float | str | tuple[str | int | float, ...]


class Adapter(Section):
    """One LoRA adapter."""

    name: Annotated[str, Field(min_length=1)]
    """Its repository on Hugging Face, or a folder where the engine runs."""
    revision: str | None = None
    """Commit, tag or branch of the repository: pin it."""


class Lora(Section):
    """Adapters that requests may name as `model:adapter`; the model itself stays as it is without one."""

    adapters: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")], Adapter] = Field(default={})
    """By the names that callers say; none: no LoRA at all."""
    max_per_batch: Annotated[int, Field(ge=1)] = 8
    """Different adapters that are computed with at once; they are kept in the GPU's memory."""
    max_loaded: Annotated[int, Field(ge=1)] | None = None
    """Adapters that are kept in the container's memory; all unless set."""
    backend: LoraBackend | None = None
    """SGLang's kernels for them."""
    eviction: LoraEviction | None = None
    """Which adapter leaves the GPU's memory for another."""


class Speculative(Section):
    """Speculative decoding: tokens are guessed, and the model checks several in one step."""

    algorithm: SpeculativeAlgorithm | None = None
    """`EAGLE`, `EAGLE3` and `STANDALONE` draft with another model, `NEXTN` with further heads that the model itself
    has (multi-token prediction), `NGRAM` with what was said before. None: no speculation."""
    draft_model: str | None = None
    """Repository of the drafting model on Hugging Face."""
    draft_revision: str | None = None
    """Commit, tag or branch of it: pin it."""
    draft_quantization: str | None = None
    """Of the drafting model, as SGLang names it."""
    num_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps that are drafted at once. It, `eagle_topk` and `num_draft_tokens` are set together, or left to SGLang."""
    eagle_topk: Annotated[int, Field(ge=1)] | None = None
    """Branches of each drafted step."""
    num_draft_tokens: Annotated[int, Field(ge=1)] | None = None
    """Drafted tokens that the model checks in one step."""
    ngram_breadth: Annotated[int, Field(ge=1)] | None = None
    """Of `NGRAM`: branches at most."""
    ngram_depth: Annotated[int, Field(ge=2)] | None = None
    """Of `NGRAM`: tokens that it looks back at most."""


class HierarchicalCache(Section):
    """A prefix cache in the container's memory, below the one in the GPU's."""

    enabled: bool = False
    """Whether there is one."""
    ratio: Annotated[float, Field(gt=1)] | None = None
    """Its size as a multiple of the GPU's; SGLang's default unless set."""
    size_gb: Annotated[int, Field(ge=1)] | None = None
    """Its size in GB, of each GPU: in place of `ratio`."""
    write_policy: WritePolicy | None = None
    """When what is computed is copied down."""


class SGLang(Section):
    """How SGLang serves this model. Where it is another engine's, only its defaults are accepted."""

    repository: str | None = None
    """Where SGLang's weights are on Hugging Face, if not under the model's `name` (with `quantization = "q4"`:
    `<name>-AWQ`)."""
    image: str | None = None
    """The container's image, as a registry calls it, in place of `lmsysorg/sglang:v0.5.23`: for CPUs one has to be
    built. SGLang in it is 0.5.23 too, or flags and choices may be others."""
    tensor_parallel: Parallel | None = None
    """GPUs over which each layer is spread; the count in `gpu`, divided by `data_parallel`, unless set."""
    data_parallel: Parallel = 1
    """Whole copies of the model in one container, each on GPUs of its own."""
    attention_data_parallel: Parallel = 1
    """Groups among the tensor-parallel GPUs that attend to different requests (for models whose KV cache is not spread
    by heads: DeepSeek's)."""
    expert_parallel: Parallel = 1
    """GPUs over which the experts of a mixture-of-experts model are spread."""
    quantization: str | None = None
    """As SGLang names it, in place of the model's `quantization`. A checkpoint that is quantized says so itself."""
    dtype: Dtype | None = None
    """Of weights and activations; the checkpoint's unless set."""
    kv_cache_dtype: str | None = None
    """Of the KV cache: `fp8_e4m3` holds twice as many tokens as bfloat16. The model's unless set."""
    attention_backend: str | None = None
    """SGLang's attention kernels; what it takes to be best for the GPU unless set."""
    tool_call_parser: str | None = None
    """How this model writes tool calls; without one, a tool call is text to SGLang. `auto`: as its chat template has
    it."""
    reasoning_parser: str | None = None
    """How this model marks its thinking, which is then told apart from the answer. `auto`: as its chat template has
    it."""
    memory_fraction: Share | None = None
    """Of each GPU's memory, for weights and KV cache together; less leaves more for CUDA graphs and activations."""
    max_running_requests: Annotated[int, Field(ge=1)] | None = None
    """Requests that it computes with at once; others wait in it. As many as one container gets
    (`scaling.max_concurrency`) unless set."""
    max_total_tokens: Annotated[int, Field(ge=16)] | None = None
    """Tokens of all requests together in the KV cache; what the memory holds unless set."""
    chunked_prefill_size: Annotated[int, Field(ge=-1)] | None = None
    """Tokens of prompts that are read in one step; -1: whole prompts."""
    prefix_cache: bool = True
    """Whether what prompts have in common is computed once."""
    hierarchical_cache: HierarchicalCache = HierarchicalCache()
    cache_report: bool = True
    """Whether usage tells how many tokens of a prompt were in the prefix cache."""
    metrics: bool = True
    """Whether the engine counts for Prometheus."""
    lora: Lora = Lora()
    speculative: Speculative = Speculative()
    trust_remote_code: bool = False
    """Whether Python code from the model's repository may run in the engine."""
    flags: dict[str, FlagValue] = Field(default={})
    """Any further flag of SGLang's server, by its name without the dashes: `true` for one without a value, a list for
    one with several. What a setting of the service is for is refused here."""

    @model_validator(mode="after")
    def _sizes_are_one(self) -> Self:
        cache = self.hierarchical_cache
        if cache.ratio is not None and cache.size_gb is not None:
            raise ValueError("hierarchical_cache: of ratio and size_gb at most one is used; expected one of them")
        return self


def tensor_parallel(sglang: SGLang, gpus: int) -> int:
    """GPUs over which each layer is spread, in a container that has `gpus`."""
    return sglang.tensor_parallel or max(1, gpus // sglang.data_parallel)
