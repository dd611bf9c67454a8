"""The models: their files, the engines that serve them, and what a running service says of them."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request

from infra.doctor.findings import FORMS, Finding
from infra.doctor.machine import got, opened, service_url
from infra.gguf_files import only_model, part_missing
from infra.model_files import model_files
from infra.revisions import advice, unpinned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.doctor.findings import Case, Form
    from infra.settings import EngineKind, Model

PACKAGES: dict[EngineKind, str] = {"sglang": "sglang", "llamacpp": "xllamacpp"}
"""Engine -> the package that it cannot do without."""
MAGIC = b"GGUF"
HUB = "https://huggingface.co"


def check_models(case: Case) -> Iterator[Finding]:
    for model in case.settings.models.available_models:
        wrong = [finding for form in FORMS if case.looks_at(form) and (finding := _model(model, form, case))]
        failures = [finding for finding in wrong if finding.level == "FAIL"]
        yield (failures or wrong or [_well(model, case)])[0]


def _model(model: Model, form: Form, case: Case) -> Finding | None:
    check, bad = f"model {model.id}", case.bad(form)
    settings = case.settings_of(form)
    kind = model.engine_for(settings.models, settings.deploy.target)
    package = PACKAGES.get(kind)
    if form == "serve" and package is not None and importlib.util.find_spec(package) is None:
        do = "make setup" if kind == "llamacpp" else "install it, or set the model's local_engine"
        return Finding(check, bad, f"its engine, {kind}, is not installed here: there is no package {package}", do)
    path = model_files(model)
    if path is None or kind == "scripted":
        return None
    wrong = wrong_with(path, kind)
    return None if wrong is None else Finding(check, bad, f"{path}: {wrong}", "set the model's path, or its engine")


def _well(model: Model, case: Case) -> Finding:
    form = case.form or "serve"
    settings = case.settings_of(form)
    kind = model.engine_for(settings.models, settings.deploy.target)
    if kind == "scripted":
        return Finding(f"model {model.id}", "WARN", "the scripted engine serves it, which is no model",
                       "for anything but tests and load, set the model's engine")  # fmt: skip
    if keys := unpinned(model, settings.models, target=settings.deploy.target):
        do = "pin it; `modal run app.py::prefetch` says which commit there is"
        return Finding(f"model {model.id}", "WARN", f"{kind} serves it, from Hugging Face; {advice(model, keys)}", do)
    source = model.path or f"{model.name}, from Hugging Face"
    return Finding(f"model {model.id}", "OK", f"{kind} serves {source}")


def wrong_with(path: Path, kind: EngineKind) -> str | None:
    """What keeps an engine from serving what lies there."""
    if not path.exists():
        return "there is nothing"
    try:
        if kind == "llamacpp":
            return _wrong_with_gguf(path)
        if not path.is_dir() or not (path / "config.json").is_file() or not [*path.glob("*.safetensors")]:
            return f"{kind} needs a folder with config.json and *.safetensors"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return None


def _wrong_with_gguf(path: Path) -> str | None:
    found = sorted(path.glob("*.gguf")) if path.is_dir() else [path]
    model = only_model(found) if path.is_dir() else path
    if model is None:
        return f"llama.cpp needs one .gguf file, and there are {len(found)}"
    if missing := part_missing(model):
        return missing
    with model.open("rb") as file:
        return None if file.read(len(MAGIC)) == MAGIC else f"{model.name} is not a GGUF file"


def check_hub(case: Case) -> Iterator[Finding]:
    """Whether Hugging Face can be asked for the weights that are not here, with the token if there is one."""
    if all(model.path is not None for model in case.settings.models.available_models):
        return
    token = case.settings.models.hf_token
    hub = case.environment.get("HF_ENDPOINT") or HUB
    url = f"{hub}/api/whoami-v2" if token else f"{hub}/api/models?limit=1"
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    try:
        with opened(Request(url, headers=headers)):  # noqa: S310 - the operator's own address
            yield Finding("hugging face", "OK", "takes the token" if token else "answers; there is no HF_TOKEN")
    except HTTPError as error:
        if token and error.code in (401, 403):
            yield Finding("hugging face", "FAIL", "refuses the token", "set HF_TOKEN to one that is valid, or to none")
        else:
            yield Finding("hugging face", "WARN", f"answers {error.code}", "try again later, or set the models' path")
    except (URLError, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        do = "weights that are not in the cache cannot be had: check the network, or set the models' path"
        yield Finding("hugging face", "WARN", f"does not answer: {reason}", do)


def check_service(case: Case) -> Iterator[Finding]:
    """What a running service says of itself and its engines. It wakes none of them."""
    server = case.here.server
    url = (case.url or service_url(server.host, server.port)).rstrip("/")
    try:
        told = got(url + "/readiness")
    except (OSError, ValueError) as error:
        if case.url is not None:
            yield Finding("service", "FAIL", f"{url} does not answer: {error}", "deploy or start it; check the address")
        return
    if not isinstance(told, dict) or told.get("status") not in ("ready", "not_ready"):
        if case.url is not None:
            yield Finding("service", "FAIL", f"{url} is something else", "check the address")
        return
    states = ", ".join(f"{one['id']} {one['state']}" for one in told.get("models", ()))
    if told["status"] == "ready":
        yield Finding("service", "OK", f"{url} is ready: {states}")
    else:
        yield Finding("service", "FAIL", f"{url} is not ready: {told.get('reason')}", "the service's log says more")
