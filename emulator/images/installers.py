"""How packages get into an environment: uv where it is there, else pip, each with the machine's own settings."""

from __future__ import annotations

import configparser
import importlib.util
import os
import shutil
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.images.commands import VALUED, labelled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from emulator.images.commands import Install

_FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
}
"""What pip's settings are called in uv, which does not read them."""
_FROM_MACHINE = ("SSL_CERT_FILE", "PIP_CERT")
_SAME = frozenset(
    (
        *("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-index", "--no-deps", "--upgrade", "-U"),
        *("--requirement", "-r", "--constraint", "-c", "--editable", "-e", "--require-hashes", "--no-build-isolation"),
        *("--no-binary", "--only-binary", "--quiet", "-q", "--verbose", "-v", "--config-settings", "-C"),
    )
)
"""Options that mean the same to both."""
_RENAMED = {
    "--pre": "--prerelease=allow",
    "--force-reinstall": "--reinstall",
    "--trusted-host": "--allow-insecure-host",
}
_NO_MATTER = frozenset(
    (
        *("--no-cache-dir", "--prefer-binary", "--disable-pip-version-check", "--progress-bar", "--no-compile"),
        *("--root-user-action", "--break-system-packages", "--timeout", "--default-timeout", "--retries", "--no-input"),
        *("--compile", "--no-warn-script-location", "--exists-action", "--no-color", "--user"),
    )
)
"""pip's, about nothing that ends up in an environment here."""
_UV_PLACES = ("--python", "-p", "--system", "--break-system-packages", "--target", "--prefix", "--no-cache")
"""uv's own options of where to install: into the image's environment."""
_PIP_PLACES = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON")
_HIDDEN = ("MODAL_", "AWS_", "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "UV_PROJECT", "UV_PYTHON", "UV_SYSTEM_PYTHON")


@dataclass(frozen=True)
class Tools:
    """What this machine installs packages with."""

    uv: Path | None
    pip: tuple[str, ...]
    """The command; empty where there is none."""


def find_tools() -> Tools:
    """Look beside this interpreter first."""
    beside = Path(sys.executable).parent / "uv"
    on_path = shutil.which("uv")
    uv = beside if os.access(beside, os.X_OK) else Path(on_path) if on_path else None
    pip = (sys.executable, "-m", "pip") if importlib.util.find_spec("pip") is not None else ()
    return Tools(uv, pip)


def venv_command(tools: Tools, interpreter: Path, target: Path) -> list[str]:
    """Make an empty environment."""
    if tools.uv is not None:
        return [
            str(tools.uv),
            "venv",
            "--quiet",
            "--no-project",
            "--no-config",
            "--python",
            str(interpreter),
            str(target),
        ]
    return [str(interpreter), "-I", "-m", "venv", "--without-pip", str(target)]


def install_commands(install: Install, words: Sequence[str], tools: Tools, environment: Path) -> list[list[str]]:
    """What does an install; where the first can not, the next may. `words` are its, with paths of this machine.

    What is pip's to do is uv's first, which is several times faster. Raises `LookupError` where nothing here can do it.
    """
    python = str(environment / "bin/python")
    if install.tool == "sync":
        return [[*_uv(tools, install), "sync", *words]]
    if install.tool == "uv":
        kept = without(words, _UV_PLACES)
        compiled = [] if "--compile-bytecode" in kept else ["--compile-bytecode"]
        return [[*_uv(tools, install), "pip", "install", "--python", python, *compiled, *kept]]
    commands = []
    translated = as_uv(words)
    if tools.uv is not None and translated is not None:
        best = ["--index-strategy", "unsafe-best-match"]  # as pip: the best version of all indexes
        commands.append([str(tools.uv), "pip", "install", "--python", python, "--compile-bytecode", *best, *translated])
    if tools.pip:
        pip = [*tools.pip, "--python", python, "install", "--disable-pip-version-check", "--no-input"]
        commands.append([*pip, *words])
    if not commands:
        raise LookupError(f"`{install.command}` needs pip: `{sys.executable} -m ensurepip`, or install uv")
    return commands


def _uv(tools: Tools, install: Install) -> list[str]:
    if tools.uv is None:
        raise LookupError(f"`{install.command}` needs uv, which is not here: `pip install uv`")
    return [str(tools.uv)]


def as_uv(words: Sequence[str]) -> list[str] | None:
    """pip's words as uv takes them. None where one has no counterpart."""
    translated: list[str] = []
    skipped = False
    for word, kind in labelled(words):
        if kind not in ("", "-"):
            translated += [] if skipped else [word]
            continue
        name = word.partition("=")[0]
        skipped = kind == "-" and name in _NO_MATTER
        if kind == "" or word in _SAME:
            translated.append(word)
        elif word in _RENAMED:
            translated.append(_RENAMED[word])
        elif not skipped:
            return None
    return translated


def without(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """The words but for those options and their values."""
    kept: list[str] = []
    skipped = False
    for word in words:
        if skipped:
            skipped = False
            continue
        if word.partition("=")[0] in options:
            skipped = word in VALUED
            continue
        kept.append(word)
    return kept


def installing_environment(machine: Mapping[str, str], given: Mapping[str, str], environment: Path) -> dict[str, str]:
    """Variables for an installer: the machine's settings of pip and uv, and on top of them the image's."""
    kept = {name: value for name, value in machine.items() if not name.startswith(_HIDDEN) and name not in _PIP_PLACES}
    variables = {**uv_settings(machine), **kept, **given}
    certificates = next((variables[name] for name in _FROM_MACHINE if variables.get(name)), "")
    if certificates:
        variables.setdefault("SSL_CERT_FILE", certificates)
    elif ssl.get_default_verify_paths().cafile:
        variables.setdefault("UV_SYSTEM_CERTS", "1")
    return {**variables, "UV_PROJECT_ENVIRONMENT": str(environment), "UV_NO_PROGRESS": "1", "PIP_PROGRESS_BAR": "off"}


def uv_settings(machine: Mapping[str, str]) -> dict[str, str]:
    """uv's variables that say what pip's configuration says. None where uv has a configuration of its own."""
    home = Path(machine.get("HOME") or "~").expanduser()
    configured = Path(machine.get("XDG_CONFIG_HOME") or home / ".config")
    if any(path.exists() for path in (configured / "uv/uv.toml", Path("/etc/uv/uv.toml"))):
        return {}
    if any(name in machine for name in ("UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_EXTRA_INDEX_URL")):
        return {}
    settings = {_FROM_PIP[name]: value for name, value in _pip_settings(machine, home, configured).items()}
    if "UV_INDEX" in settings:
        settings["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return settings


def _pip_settings(machine: Mapping[str, str], home: Path, configured: Path) -> dict[str, str]:
    """What pip's files and variables say of where packages come from; the later ones win, as with pip."""
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", configured / "pip/pip.conf"]
    files.append(Path(sys.prefix) / "pip.conf")
    if named := machine.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, Path(named)]
    found: dict[str, str] = {}
    for file in files:
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update({name: value for name, value in parser.items(section) if name in _FROM_PIP})
    for name in _FROM_PIP:
        if value := machine.get("PIP_" + name.upper().replace("-", "_")):
            found[name] = value
    return {name: ("," if name == "find-links" else " ").join(value.split()) for name, value in found.items()}
