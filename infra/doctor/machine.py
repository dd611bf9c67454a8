"""This machine: Python, packages, ports."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import re
import socket
import sys
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from infra.doctor.findings import Finding
from infra.model_files import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from urllib.request import Request

    from infra.doctor.findings import Case

LOCKS = (("run.txt",), ("web.txt", "cpu.txt"), ("web.txt",))
"""Of this folder the first that are there: of `make setup`, of the image for CPUs, and of that with SGLang."""
FOLDER = ROOT / "requirements"
OLDEST, TOO_NEW = (3, 11), (3, 14)
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$", re.MULTILINE)
ANSWER_SECONDS = 3.0


def check_machine(case: Case) -> Iterator[Finding]:
    yield python(sys.version_info[:3])
    yield packages(locks(FOLDER))
    if case.looks_at("serve"):
        yield port(case.here.server.host, case.here.server.port)


def python(version: tuple[int, int, int]) -> Finding:
    told = ".".join(map(str, version))
    if OLDEST <= version[:2] < TOO_NEW:
        return Finding("python", "OK", told)
    return Finding("python", "FAIL", f"{told}, and 3.11 to 3.13 are known to work",
                   "make .venv anew with one of those: make clean, make setup PYTHON=python3.12")  # fmt: skip


def locks(folder: Path) -> list[Path]:
    found = ([folder / name for name in names] for names in LOCKS)
    return next((paths for paths in found if all(path.is_file() for path in paths)), [])


def packages(locks: list[Path]) -> Finding:
    """Whether what is installed is what the locks say."""
    if not locks:
        return Finding("packages", "WARN", "there is no lock to compare with", "run it from the source tree")
    try:
        from packaging.markers import Marker
    except ImportError:
        return Finding("packages", "FAIL", "packaging is not installed", "make setup")
    missing, others = list[str](), list[str]()
    wanted = {
        name: version
        for name, version, marker in _PINNED.findall("".join(lock.read_text(encoding="utf-8") for lock in locks))
        if not marker or Marker(marker).evaluate()
    }
    for name, version in wanted.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found != version:
            others.append(f"{name} {found} (for {version})")
    if missing:
        return Finding("packages", "FAIL", f"not installed: {_some(missing)}", "make setup")
    if others:
        return Finding("packages", "WARN", f"not the versions that are tested: {_some(others)}", "make setup")
    return Finding("packages", "OK", f"all {len(wanted)} at their versions")


def port(host: str, number: int) -> Finding:
    """Whether the service could listen there, or does already."""
    where = f"{host}:{number}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, number, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return Finding("port", "FAIL", f"{where}: {error.strerror or error}", "set server.host (SERVER_HOST)")
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if is_the_service(service_url(host, number)):
                return Finding("port", "OK", f"the service runs at {where}")
            return Finding("port", "FAIL", f"{where}: {error.strerror or error}",
                           "end what listens there, or set server.port (SERVER_PORT, make run PORT=…)")  # fmt: skip
    return Finding("port", "OK", f"{where} is free")


def service_url(host: str, number: int) -> str:
    """Where this machine reaches what listens there."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound
    return f"http://[{reached}]:{number}" if ":" in reached else f"http://{reached}:{number}"


def is_the_service(url: str) -> bool:
    try:
        return isinstance(got(url + "/health"), dict)
    except (OSError, ValueError):
        return False


def got(url: str) -> object:
    """The JSON there, of any status. Raises OSError, ValueError."""
    try:
        with opened(url) as answer:
            return json.loads(answer.read(1 << 20))
    except HTTPError as error:
        return json.loads(error.read(1 << 20))
    except URLError as error:
        raise OSError(str(error.reason)) from None


def opened(request: Request | str) -> Any:
    """The answer there, which is to be closed: by the proxy that the environment names, but for this machine's own
    addresses, which that would look for on its own. Raises OSError (urllib's errors are ones)."""
    url = request if isinstance(request, str) else request.full_url
    opener = build_opener(ProxyHandler({})) if is_here(urlsplit(url).hostname or "") else build_opener()
    return opener.open(request, timeout=ANSWER_SECONDS)


def is_here(host: str) -> bool:
    """Whether a host's name or address is this machine's own, as far as that is seen without asking."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
