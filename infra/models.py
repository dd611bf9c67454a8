"""The models that the service offers: what each of them is, and how many containers it may have."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from infra.metering import Prices
from infra.section import Section
from infra.sglang import SGLang

Device = Literal["cuda", "cpu", "metal"]
EngineKind = Literal["sglang", "llamacpp", "scripted"]
Pooling = Literal["mean", "cls", "last"]
Quantization = Literal["q4", "q8", "bf16"]
Target = Literal["modal", "local"]

DEMO_MODEL_FOLDER = "functions/demo/model"
"""Where the model that ships with the project lies, from the project's root."""


class Counts(Section):
    """How many containers a model or the web endpoint may have. Windows are in seconds."""

    min_containers: Annotated[int, Field(ge=0)] = 0
    """That are kept whether or not anything is asked."""
    max_containers: Annotated[int, Field(ge=1)] = 1
    """However much is asked."""
    buffer_containers: Annotated[int, Field(ge=0)] = 0
    """That are started beyond what is asked for, once something is."""
    scaledown_window: Annotated[int, Field(ge=2, le=1200)] = 300
    """Of idleness, after which a container leaves."""

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min_containers > self.max_containers:
            raise ValueError(f"min_containers ({self.min_containers}) is above max_containers ({self.max_containers})")
        return self


class Scaling(Counts):
    """How many containers a model may have, and how many requests each of them takes. Windows are in seconds."""

    target_concurrency: Annotated[float, Field(gt=0)] | None = None
    """Requests for each container that Modal aims at: fewer than `max_concurrency` starts another container before
    the ones there are full. `max_concurrency` unless set."""
    max_concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests that one container takes at once; above it, it answers 429, and callers wait for another.
    `models.max_concurrent_requests` unless set."""
    scaleup_window: Annotated[int, Field(ge=1, le=600)] | None = None
    """Seconds for which more must be asked before another container is started; Modal's own unless set."""


class Container(Section):
    """What a model's containers are given beside a GPU, and where they are. What is not set is Modal's to choose."""

    cpu: Annotated[float, Field(gt=0, le=64)] | None = None
    """Cores that are reserved."""
    memory: Annotated[int, Field(ge=128, le=344_064)] | None = None
    """MiB that are reserved."""
    ephemeral_disk: Annotated[int, Field(ge=1, le=3_145_728)] | None = None
    """MiB of disk."""
    regions: tuple[str, ...] = ()
    """Where containers may be (`"us-east"`, `"eu"`, …): a narrower choice costs more, and waits longer for a GPU."""
    routing_region: str | None = None
    """Where requests enter on their way to the containers: near them. Modal's us-east unless set."""
    cloud: Literal["aws", "gcp", "oci", "auto"] | None = None
    """Whose machines."""
    nonpreemptible: bool = False
    """Machines that are not taken back: at a higher price."""


class Model(Section):
    """One model that the service offers."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,47}$")]
    """Short name: what callers may say, and part of the name of the Modal Server that serves it."""
    name: Annotated[str, Field(min_length=1)]
    """Full name, as on Hugging Face: callers may say this too, and weights come from there unless `path` is set."""
    context_length: Annotated[int, Field(ge=16)] = 4096
    """Tokens, prompt and answer together."""
    path: str | None = None
    """A folder or file on the machine that deploys, in place of Hugging Face."""
    revision: str | None = None
    """Commit, tag or branch of the repository on Hugging Face."""
    quantization: Quantization | None = None
    device: Device | None = None
    """Where it runs in the cloud; `models.default_device` unless set."""
    gpu: str = "L4"
    """Modal's name of the GPU (`"H100:2"` for two), for a model whose device is `cuda`."""
    vision: bool = False
    """Whether messages may hold images: the model sees, and its engine was given what it sees with."""
    embedding: bool = False
    """Whether it embeds texts (`/v1/embeddings`) instead of answering."""
    pooling: Pooling | None = None
    """How an embedding is made of its tokens', with llama.cpp; the file says it unless set."""
    matryoshka: bool = False
    """Whether its embeddings may be shortened (`dimensions`): only a model that was trained so is good at that."""
    engine: EngineKind | None = None
    """`sglang` on `cuda`, else `llamacpp`, unless set."""
    local_engine: EngineKind = "llamacpp"
    """The engine that takes the place of `engine` when the target is `local`."""
    sglang: SGLang = SGLang()
    scripted_args: tuple[str, ...] = ()
    """Arguments of the scripted engine, as on its command line: for tests and load generators."""
    snapshot: bool = False
    """Whether containers start from a snapshot of memory and GPU, the engine in it asleep: SGLang on one GPU only."""
    startup_timeout: Annotated[int, Field(ge=1, le=3600)] = 1200
    """Seconds that a container may take to load the model."""
    prices: Prices = Prices()
    scaling: Scaling = Scaling()
    container: Container = Container()

    @model_validator(mode="after")
    def _it_is_one_kind(self) -> Self:
        if self.embedding and self.vision:
            raise ValueError("a model embeds or sees: of embedding and vision at most one may be true")
        if not self.embedding and (self.matryoshka or self.pooling is not None):
            raise ValueError("matryoshka and pooling are of embeddings: they need embedding = true")
        return self

    def device_of(self, models: Models) -> Device:
        return self.device or models.default_device

    def engine_for(self, models: Models, target: Target) -> EngineKind:
        """Which engine serves this model on `target`."""
        if target == "local":
            return self.local_engine
        return self.engine or ("sglang" if self.device_of(models) == "cuda" else "llamacpp")

    def runs_on(self, models: Models, target: Target) -> Device:
        """The device that its engine computes on: what is configured, where the engine can use it."""
        configured, engine = self.device_of(models), self.engine_for(models, target)
        if target == "local" or engine == "scripted":
            return "cpu"
        return configured if engine == "sglang" or configured == "metal" else "cpu"  # llama.cpp is built for the CPU

    def concurrency(self, models: Models) -> int:
        """Requests that one container takes at once."""
        return self.scaling.max_concurrency or models.max_concurrent_requests

    @property
    def checkpoint(self) -> str:
        """The repository of SGLang's weights: those of 4 bits were made before, and lie beside the whole ones."""
        if self.sglang.repository is not None:
            return self.sglang.repository
        made = any(word in self.name.lower() for word in ("awq", "gptq", "int4", "4bit", "w4a16"))
        return f"{self.name}-AWQ" if self.quantization == "q4" and not made else self.name


DEMO_MODEL = Model(id="demo", name="demo", context_length=2048, path=DEMO_MODEL_FOLDER, device="cpu", engine="llamacpp")


class Models(Section):
    default_device: Device = "cuda"
    max_concurrent_requests: Annotated[int, Field(ge=1)] = 10
    """Requests that one engine container takes at once; above it, it answers 429 and another container starts."""
    max_queued_requests: Annotated[int, Field(ge=0)] = 200
    """Requests for one model that one web container lets wait for a place; above it, callers get 503."""
    available_models: Annotated[tuple[Model, ...], Field(min_length=1)] = (DEMO_MODEL,)
    hf_token: SecretStr | None = None
    """Hugging Face token, for gated models. Travels as a Modal Secret."""
    hf_endpoint: Annotated[str, Field(pattern=r"^https?://[^/]")] | None = None
    """A mirror that models come from, in the place of https://huggingface.co."""
    keep_compiled: bool = True
    """Whether what SGLang compiles in a container is kept in a Volume for the next one."""
    cuda_visible_devices: str | None = None
    """Handed to the engines as `CUDA_VISIBLE_DEVICES`."""
    engine_environment: tuple[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = ()
    """Names of further environment variables that engines are handed, beside those that they are known to need."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: dict[str, str] = {}
        for model in self.available_models:
            for label in {model.id, model.name}:
                if label in seen:
                    raise ValueError(f"two models answer to {label!r}: {seen[label]!r} and {model.id!r}")
                seen[label] = model.id
        return self

    @model_validator(mode="after")
    def _targets_are_below_what_is_taken(self) -> Self:
        for model in self.available_models:
            target, most = model.scaling.target_concurrency, model.concurrency(self)
            if target is not None and target > most:
                raise ValueError(
                    f"model {model.id!r}: scaling.target_concurrency ({target:g}) is above what a container takes "
                    f"({most}); expected it below scaling.max_concurrency, or models.max_concurrent_requests"
                )
        return self

    def find(self, label: str) -> Model | None:
        """The model that callers mean by `label`: an id or a name, or one of these, a colon and one of its adapters."""
        for model in self.available_models:  # no generator: every request asks, several times
            if label in (model.id, model.name):
                return model
        named, _, adapter = label.rpartition(":")
        for model in self.available_models:
            if named in (model.id, model.name) and adapter in model.sglang.lora.adapters:
                return model
        return None

    def adapter(self, label: str) -> str | None:
        """The adapter of its model that callers mean by `label`, which `find` has found."""
        exact = any(label in (model.id, model.name) for model in self.available_models)
        return None if exact else label.rpartition(":")[2]
