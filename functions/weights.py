"""Where a model's weights come from, and how they get onto this disk: a local path, or Hugging Face.

`plan` decides (pure), `fetch` does. A download shows a progress bar, fills Hugging Face's own cache (`HF_HOME`), goes
on where it was when the connection breaks, and is checked against the hashes that the hub states. A copy that was
verified once is used from then on without asking the hub: containers start as fast and with the same weights offline.
`python -m functions.weights [MODEL …]` fetches before it is needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.engines.base import EngineStartError
from functions.weight_files import explain, is_as_stated, progress_class, remove, remove_leftovers
from infra.gguf_files import is_projector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from huggingface_hub.hf_api import RepoSibling

    from functions.boot import Boot
    from infra.settings import EngineKind, Model, Quantization

GGUF_PATTERNS: Final[dict[Quantization, tuple[str, ...]]] = {
    "q4": ("*q4_k_m*.gguf", "*q4_0*.gguf", "*q4*.gguf"),
    "q8": ("*q8_0*.gguf",),
    "bf16": ("*bf16*.gguf", "*fp16*.gguf", "*f16*.gguf"),
}
"""How GGUF repositories name their files, in lower case, the first that is there counts. Without a quantization: q4."""
FOLDER_PATTERNS: Final = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""What SGLang and transformers load from a repository."""
REMOTE_CODE_PATTERNS: Final = ("*.py", "*.tiktoken", "tiktoken.model")
"""And where its own code may run: that, and the tokenizers that only such code reads."""


class WeightsError(EngineStartError):
    """The weights cannot be had. The message names the repository or path, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """A file or folder that lies on this machine."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Files of a repository on Hugging Face.

    With `alternatives` it is one file, of the first pattern that any file has; without, every file that fits.
    """

    repository: str
    revision: str | None
    patterns: tuple[str, ...]
    alternatives: bool


Source = Local | Hub


def plan(model: Model, engine: EngineKind) -> Source:
    """Where the weights of `model` are for this engine: GGUF for llama.cpp, a folder of safetensors for SGLang."""
    if model.path is not None:
        return Local(path=Path(model.path).expanduser())
    if engine != "llamacpp":
        return Hub(
            repository=model.checkpoint, revision=model.revision, patterns=folder_patterns(model), alternatives=False
        )
    repository = model.name if model.name.lower().endswith("-gguf") else f"{model.name}-GGUF"
    patterns = GGUF_PATTERNS[model.quantization or "q4"]
    return Hub(repository=repository, revision=model.revision, patterns=patterns, alternatives=True)


def folder_patterns(model: Model) -> tuple[str, ...]:
    """What SGLang needs of a repository for `model`: its own, or one of what is loaded beside it."""
    return FOLDER_PATTERNS + (REMOTE_CODE_PATTERNS if model.sglang.trust_remote_code else ())


def choose(names: Sequence[str], source: Hub) -> list[str]:
    """Which of a repository's files `source` means: none when nothing fits. Weights in parts are all of their parts."""
    if not source.alternatives:
        return sorted(name for name in names if "/" not in name and _fits(name, source.patterns))
    models = [name for name in names if not is_projector(name)]
    for pattern in source.patterns:
        found = sorted(name for name in models if _fits(name, (pattern,)))
        if found:
            first, parts, rest = found[0].partition("-00001-of-")
            return [name for name in found if parts and name.startswith(first) and name.endswith(rest)] or found[:1]
    return []


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name.lower(), pattern) for pattern in patterns)


def fetch(
    source: Source,
    *,
    cache: Path | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    boot: Boot | None = None,
) -> Path:
    """The weights on this disk: a GGUF file, or a folder. Blocks; shows a progress bar on stderr while it downloads.

    `cache` is a folder in Hugging Face's cache layout; without it `HF_HOME` (or its default) decides.
    `endpoint`: of a mirror of Hugging Face. `boot` is told when a download begins.
    Raises WeightsError.
    """
    if isinstance(source, Local):
        if not source.path.exists():
            raise WeightsError(f"{source.path}: there is no such model file or folder; check the model's `path`")
        return source.path
    return _Download(source, cache=cache, token=token, endpoint=endpoint, boot=boot).run()


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What lies in the cache now, every file of it as the hub states it. Sizes in bytes."""

    path: Path
    commit: str
    files: int
    size: int
    downloaded: int
    """Of the files that were not there, or not whole: what was left of a broken download counts in full."""


def take(
    source: Hub,
    *,
    cache: Path | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    after_each: Callable[[], None] | None = None,
) -> Taken:
    """Have the weights in the cache whatever is there already: the hub is asked, and every file's hash compared.

    `after_each` is called whenever a file has come. Raises WeightsError.
    """
    return _Download(source, cache=cache, token=token, endpoint=endpoint, after_each=after_each).take()


@dataclass(frozen=True, kw_only=True)
class _Verified:
    """What was downloaded and found right: the folder of the snapshot, and each file's size in bytes."""

    folder: str
    sizes: dict[str, int]
    commit: str = ""

    @property
    def path(self) -> Path:
        """One GGUF file (of several parts llama.cpp takes the first), else the folder."""
        names = sorted(self.sizes)
        return Path(self.folder) / names[0] if names[0].lower().endswith(".gguf") else Path(self.folder)

    def is_whole(self) -> bool:
        """Whether everything is still there. Sizes only: hashing gigabytes at every start would be a slow start."""
        files = {Path(self.folder) / name: size for name, size in self.sizes.items()}
        return all(file.is_file() and file.stat().st_size == size for file, size in files.items())


class _Download:
    def __init__(
        self,
        source: Hub,
        *,
        cache: Path | None,
        token: str | None,
        endpoint: str | None,
        boot: Boot | None = None,
        after_each: Callable[[], None] | None = None,
    ) -> None:
        # Not at import: the hub's client takes a while to load, and a model with a path has no use for it.
        from huggingface_hub import HfApi, constants

        self.source = source
        self.cache = cache or Path(constants.HF_HUB_CACHE)
        self.token = token
        self.boot = boot
        self.after_each = after_each
        self.downloaded = 0
        self.api = HfApi(endpoint=endpoint, token=token, library_name="llm-service")
        wanted = json.dumps(asdict(source), sort_keys=True).encode()
        folder = source.repository.replace("/", "--")
        self.record = self.cache / "verified" / f"{folder}.{hashlib.sha256(wanted).hexdigest()[:16]}.json"

    def run(self) -> Path:
        known = self._known()
        if known is not None and known.is_whole():
            return known.path
        if self.boot is not None:
            self.boot.begins("download")
        return self._kept().path

    def take(self) -> Taken:
        verified = self._kept()
        remove_leftovers(verified.path if verified.path.is_dir() else verified.path.parent)
        sizes = verified.sizes.values()
        return Taken(
            path=verified.path, commit=verified.commit, files=len(sizes), size=sum(sizes), downloaded=self.downloaded
        )

    def _kept(self) -> _Verified:
        try:
            verified = self._download()
            self.record.parent.mkdir(parents=True, exist_ok=True)
            written = self.record.with_suffix(f".{os.getpid()}.{threading.get_ident()}")
            try:
                written.write_text(json.dumps(asdict(verified)), "utf-8")
                written.replace(self.record)
            finally:
                written.unlink(missing_ok=True)
        except WeightsError:
            raise
        except Exception as error:
            raise WeightsError(explain(self.source.repository, error)) from error
        return verified

    def _known(self) -> _Verified | None:
        try:
            return _Verified(**json.loads(self.record.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _download(self) -> _Verified:
        repository = self.source.repository
        info = self.api.model_info(repository, revision=self.source.revision, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or ()}
        names = choose(list(files), self.source)
        if not names or not any(name.lower().endswith((".gguf", ".safetensors")) for name in names):
            wanted = ", ".join(self.source.patterns)
            raise WeightsError(
                f"{repository}: has no weights that fit {wanted}; set another `quantization`, `name` or `path`"
            )
        folder, sizes = Path(), {}
        for name in names:
            path = self._file(files[name], info.sha or self.source.revision)
            folder = path.parents[name.count("/")]
            sizes[name] = path.stat().st_size
        return _Verified(folder=str(folder), sizes=sizes, commit=folder.name)

    def _file(self, stated: RepoSibling, revision: str | None) -> Path:
        """One file, as the hub states it; what lies in the cache and is not that is replaced."""
        from huggingface_hub import try_to_load_from_cache

        repository, name = self.source.repository, stated.rfilename
        cached = try_to_load_from_cache(repository, name, cache_dir=self.cache, revision=revision)
        if isinstance(cached, str):
            if is_as_stated(Path(cached), stated):
                return Path(cached)
            remove(Path(cached))
        self.downloaded += stated.size or 0
        path = Path(
            self.api.hf_hub_download(
                repository, name, revision=revision, cache_dir=self.cache, tqdm_class=progress_class()
            )
        )
        if not is_as_stated(path, stated):
            remove(path)
            raise WeightsError(
                f"{repository}/{name}: the download is corrupt: its hash is not the one that the hub states; "
                "it was removed, try again"
            )
        if self.after_each is not None:
            self.after_each()
        return path


def main() -> None:
    """Fetch the weights of the configured models that are named, or of all, for the engine that serves each, and what
    it loads beside them."""
    from functions.weights_beside import beside
    from infra.configuration import ConfigurationError, load_settings

    try:
        settings = load_settings()
        secret, endpoint = settings.models.hf_token, settings.models.hf_endpoint
        token = secret.get_secret_value() if secret else None
        for label in sys.argv[1:] or [model.id for model in settings.models.available_models]:
            model = settings.models.find(label)
            if model is None:
                sys.exit(f"{label}: is not among the configured models")
            engine = model.engine_for(settings.models, settings.deploy.target)
            for source in (plan(model, engine), *(beside(model) if engine == "sglang" else ())):
                print(f"{model.id}: {fetch(source, token=token, endpoint=endpoint)}")
    except (ConfigurationError, WeightsError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
