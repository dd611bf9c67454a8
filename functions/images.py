"""The Image of each kind of container.

The resolved settings travel in every image, so that what a container computes is what the deployer computed.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import modal

from infra.configuration import carry
from infra.gguf_files import parts_of
from infra.model_files import ROOT, model_files

if TYPE_CHECKING:
    from infra.settings import Model, Settings

PYTHON = "3.11"
"""On Modal. Deployed to this machine, the service has the Python that it is deployed with, whose packages are here."""
SGLANG_IMAGE = "lmsysorg/sglang:v0.5.23"
"""SGLang's own image: CUDA, kernels and server, as its team releases them."""
SETTINGS_READERS = ("pydantic-settings>=2.12,<3", "aiohttp>=3.12,<4", "boto3>=1.40,<2", "prometheus-client>=0.23,<1")
"""What our code needs beside the engine in SGLang's image."""
WEIGHTS = "/weights"
"""Where the Volume of downloaded weights is mounted."""
HF_HOME = f"{WEIGHTS}/huggingface"
COMPILED = "/compiled"
"""Where the Volume of compiled kernels is mounted."""
PAGE = "web/static"
"""The files of the chat page, below the project's root."""
SOURCE = "/root"
"""Where Modal puts packages in containers."""


def model_folder(model: Model) -> str:
    """Where a container finds the files of a model that was configured by `path`: a folder."""
    return f"/models/{model.id}"


def needs_weights(model: Model, settings: Settings) -> bool:
    """Whether the container of `model` wants the Volume: the scripted engine has no weights."""
    return model.engine_for(settings.models, settings.deploy.target) != "scripted"


def keeps_compiled(model: Model, settings: Settings) -> bool:
    """Whether what the engine of `model` compiles is kept: SGLang's is; llama.cpp compiles nothing."""
    engine = model.engine_for(settings.models, settings.deploy.target)
    return settings.models.keep_compiled and (engine == "sglang" or "--compile" in model.scripted_args)


def engine_volumes(
    model: Model, settings: Settings
) -> dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount]:
    """Where the container of `model` finds what outlives it."""
    volumes: dict[str | PurePosixPath, modal.Volume | modal.CloudBucketMount] = {}
    if needs_weights(model, settings):
        volumes[WEIGHTS] = weights_volume(settings)
    if keeps_compiled(model, settings):
        volumes[COMPILED] = compiled_volume(settings)
    return volumes


def weights_volume(settings: Settings) -> modal.Volume:
    return modal.Volume.from_name(f"{settings.deploy.app_name}-weights", create_if_missing=True)


def compiled_volume(settings: Settings) -> modal.Volume:
    return modal.Volume.from_name(f"{settings.deploy.app_name}-compiled", create_if_missing=True)


def sleeps_in_snapshots(model: Model, settings: Settings) -> bool:
    """Whether the container of `model` is started from snapshots: where it is configured, and its engine here can."""
    return model.snapshot and model.engine_for(settings.models, settings.deploy.target) in ("sglang", "scripted")


def web_image(settings: Settings) -> modal.Image:
    """The web container: slim, no torch."""
    base = modal.Image.debian_slim(python_version=_python(settings))
    packages = ["web", "tracing"] if settings.observability.traced else ["web"]
    image = base.uv_pip_install(requirements=[str(ROOT / f"requirements/{name}.txt") for name in packages])
    image = _with_source(image, settings)
    if not modal.is_local():
        return image
    return image.add_local_dir(ROOT / PAGE, f"{SOURCE}/{PAGE}")  # of a package's files, Modal takes the *.py along


def engine_image(model: Model, settings: Settings) -> modal.Image:
    """The container of the engine that serves `model` on the configured target."""
    engine = model.engine_for(settings.models, settings.deploy.target)
    if engine == "sglang":
        base = (
            modal.Image.from_registry(model.sglang.image or SGLANG_IMAGE)
            .entrypoint([])
            .uv_pip_install(*SETTINGS_READERS)
        )
    else:
        base = modal.Image.debian_slim(python_version=_python(settings)).apt_install("libgomp1")
        base = base.uv_pip_install(requirements=[str(ROOT / "requirements/cpu.txt")])
    variables = {"HF_HOME": HF_HOME}
    if sleeps_in_snapshots(model, settings):
        variables["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # its workers are processes that a GPU snapshot cannot hold
    return _with_files(_with_source(base.env(variables), settings), model)


def prefetch_image(settings: Settings) -> modal.Image:
    """What fetches weights into the Volume: no engine runs in it, so none of SGLang's image is pulled for it."""
    base = modal.Image.debian_slim(python_version=_python(settings))
    base = base.uv_pip_install(requirements=[str(ROOT / "requirements/cpu.txt")])
    return _with_source(base.env({"HF_HOME": HF_HOME, "HF_XET_HIGH_PERFORMANCE": "1"}), settings)


def _python(settings: Settings) -> str | None:
    return None if settings.deploy.target == "local" else PYTHON


def _with_source(image: modal.Image, settings: Settings) -> modal.Image:
    return image.env(carry(settings)).add_local_python_source("functions", "infra", "web")


def _with_files(image: modal.Image, model: Model) -> modal.Image:
    path = model_files(model)
    if path is None or not modal.is_local():
        return image
    if path.is_dir():
        return image.add_local_dir(path, model_folder(model))
    for part in parts_of(path):
        image = image.add_local_file(part, str(PurePosixPath(model_folder(model)) / part.name))
    return image
