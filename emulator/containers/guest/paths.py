"""What a container may import: the interpreter's own library and installed packages, never the deployer's folders."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from pathlib import Path

CLIENT_VARIABLE = "EMULATOR_CLIENT_PATH"
"""As in `environment`."""


def installed_roots() -> list[Path]:
    """The folders of the standard library and of installed packages, of this environment and of the one below it.

    The client's own folder too, where the environment is an image's, which does not have it.
    """
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    roots = [Path(sysconfig.get_path(name)) for name in names] + [Path(folder) for folder in site.getsitepackages()]
    return [*roots, Path(client)] if (client := os.environ.get(CLIENT_VARIABLE)) else roots


def installed_only(path: list[str], roots: list[Path]) -> list[str]:
    """Those entries of a `sys.path` that lie in one of `roots`, and the zipped standard library.

    What `.pth` files of editable installs add lies elsewhere, and so do the current folder and `PYTHONPATH`.
    """

    def stays(entry: str) -> bool:
        return bool(entry) and (Path(entry).suffix == ".zip" or any(Path(entry).is_relative_to(r) for r in roots))

    return [entry for entry in path if stays(entry)]


def forget_deployer() -> None:
    """Take the deployer's folders off this process's import path, and the import hooks of editable installs."""
    sys.path[:] = installed_only(sys.path, installed_roots())
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_editable(finder)]
    sys.path_hooks[:] = [hook for hook in sys.path_hooks if not _is_editable(hook)]
    sys.path_importer_cache.clear()


def forget_emulator() -> None:
    """Make `import emulator` in user code mean whatever the container's own path says."""
    for name in [name for name in sys.modules if name == "emulator" or name.startswith("emulator.")]:
        del sys.modules[name]


def _is_editable(hook: object) -> bool:
    """setuptools, hatch, meson-python and scikit-build-core all have the word in their module's name."""
    module = getattr(hook, "__module__", None) or type(hook).__module__
    return "editable" in module
