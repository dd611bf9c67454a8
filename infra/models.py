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


class Scaling(Section):
    """How many containers a model or the web endpoint may have. Windows are in seconds."""

    min_containers: Annotated[int, Field(ge=0)] = 0
    max_containers: Annotated[int, Field(ge=1)] = 1
    buffer_containers: Annotated[int, Field(ge=0)] = 0
    scaledown_window: Annotated[int, Field(ge=2, le=1200)] = 300

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        if self.min_containers > self.max_containers:
            raise ValueError(f"min_containers ({self.min_containers}) is above max_containers ({self.max_containers})")
        return self


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
    startup_timeout: Annotated[int, Field(ge=1, le=3600)] = 1200
    """Seconds that a container may take to load the model."""
    prices: Prices = Prices()
    scaling: Scaling = Scaling()

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
    cuda_visible_devices: str | None = None
    """Handed to the engines as `CUDA_VISIBLE_DEVICES`."""

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        seen: dict[str, str] = {}
        for model in self.available_models:
            for label in {model.id, model.name}:
                if label in seen:
                    raise ValueError(f"two models answer to {label!r}: {seen[label]!r} and {model.id!r}")
                seen[label] = model.id
        return self

    def find(self, label: str) -> Model | None:
        """The model that callers mean by `label`: an id or a name."""
        for model in self.available_models:  # no generator: every request asks, several times
            if label in (model.id, model.name):
                return model
        return None
