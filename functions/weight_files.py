"""One file of a repository on Hugging Face: whether it is what the hub states, and what went wrong with it."""

from __future__ import annotations

import contextlib
import hashlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub.hf_api import RepoSibling
    from huggingface_hub.utils.tqdm import tqdm


ABANDONED_SECONDS: Final = 24 * 3600.0
"""For how long nothing was written into a download that nobody is at any more."""


def remove(path: Path) -> None:
    """A cached file, and what it is a link to."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remove_leftovers(snapshot: Path) -> None:
    """What downloads of a repository have left that were killed: nobody goes on with those. `snapshot`: a folder in its
    cache."""
    repository = next((folder for folder in snapshot.parents if (folder / "blobs").is_dir()), None)
    if repository is None:
        return
    for file in (repository / "blobs").glob("*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - file.stat().st_mtime > ABANDONED_SECONDS:
                file.unlink()


def is_as_stated(path: Path, stated: RepoSibling) -> bool:
    """Whether a file has the size and the hash that the hub states: SHA-256 of large files, git's of small ones."""
    size = path.stat().st_size
    if stated.lfs is not None:
        digest, expected = hashlib.sha256(), str(stated.lfs.sha256)
    else:
        # git's own names for contents: no defence against an attacker, but it does notice a broken download.
        digest, expected = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False), str(stated.blob_id)
    if stated.size not in (None, size):
        return False
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == expected


def progress_class() -> type[tqdm]:
    """Hugging Face's progress bar; where nobody watches a terminal (a container's log), a line every other second."""
    from huggingface_hub.utils.tqdm import tqdm

    class Lines(tqdm):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **{**options, "disable": False, "mininterval": 2.0})  # type: ignore[no-untyped-call]

        def display(self, msg: str | None = None, pos: int | None = None) -> None:  # noqa: ARG002 - tqdm's signature
            print(msg or str(self), file=sys.stderr, flush=True)

    return tqdm if sys.stderr.isatty() else Lines


def explain(repository: str, error: Exception) -> str:
    """One line for what went wrong with the hub, and what to do."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return f"{repository}: is gated; accept its terms on Hugging Face and set HF_TOKEN to a token that may read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository}: has no such revision; check the model's `revision`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repository}: is not on Hugging Face, or private; check the model's `name`, or set HF_TOKEN"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "?"
        return (
            f"{repository}: Hugging Face answered {status}; try again later, or set the model's `path` to a local copy"
        )
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        return f"{repository}: cannot be stored at {error.filename}: {error.strerror}; free space, or set HF_HOME"
    if isinstance(error, OSError) and error.errno == 28:
        return f"{repository}: the disk is full; free space, or set HF_HOME to a folder on a larger one"
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{repository}: cannot be downloaded ({reason}); check the network, or set the model's `path` to a local copy"
    )
