"""The `modal` client for environments that do not have it: a folder of links to the emulator's own packages.

Modal does the same: its client and what that needs are mounted beside the image's packages, and looked through last.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from emulator.containers.folder import remove

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import Distribution

CLIENT = "modal"


def client_version() -> str:
    """Of the emulator's own."""
    return importlib.metadata.version(CLIENT)


def closure() -> list[Distribution]:
    """The client and everything that it needs, as installed here."""
    waiting, found = [CLIENT], {}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return [found[name] for name in sorted(found)]


def linked_client(clients: Path, packages: Iterable[Distribution] | None = None) -> Path:
    """A folder in `clients` that leads to these packages and no others. Made once for each set of versions."""
    packages = list(closure() if packages is None else packages)
    listing = "\n".join(f"{found.metadata['Name']} {found.version} {found.locate_file('')}" for found in packages)
    folder = clients / hashlib.sha256(listing.encode()).hexdigest()[:32]
    if not folder.exists():
        partial = clients / f"partial-{secrets.token_hex(4)}"
        try:
            for found in packages:
                _link(found, partial)
            _put_in_place(partial, folder)
        finally:
            remove(partial)
    return folder


def _put_in_place(partial: Path, folder: Path) -> None:
    try:
        partial.rename(folder)
    except OSError:
        if not folder.exists():  # else another emulator has made the same meanwhile
            raise


def _link(package: Distribution, folder: Path) -> None:
    """Link what a package has installed, as high up as no other package's files are beside it."""
    base = Path(str(package.locate_file("")))
    for file in package.files or ():
        parts = file.parts
        if ".." in parts or "__pycache__" in parts[:1]:
            continue
        depth = 1
        while depth < len(parts) and _is_namespace(base.joinpath(*parts[:depth])):
            depth += 1
        target = folder.joinpath(*parts[:depth])
        if not target.exists() and not target.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(base.joinpath(*parts[:depth]))


def _is_namespace(folder: Path) -> bool:
    """Whether several packages may have files in it."""
    return folder.is_dir() and folder.suffix == "" and not (folder / "__init__.py").exists()
