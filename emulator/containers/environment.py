"""A container's environment: an allow-list of the machine's, what the container was given, and Modal's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.containers.base import ContainerSpec, OwnPython

ALLOWED = frozenset(
    (
        "PATH",
        "LANG",
        "LANGUAGE",
        "TZ",
        "TERM",
        "USER",
        "LOGNAME",
        "LD_LIBRARY_PATH",
        "DYLD_LIBRARY_PATH",
        "SYSTEMROOT",
        "CUDA_VISIBLE_DEVICES",
        "NVIDIA_VISIBLE_DEVICES",
        "NVIDIA_DRIVER_CAPABILITIES",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    )
)
"""What a container inherits from the machine, beside `LC_*`."""

_NOT_PROXIED = "localhost,127.0.0.1,::1,172.20.0.2"
"""The last is the private network's own `eth0` (see `guest.network`)."""

CLIENT_VARIABLE = "EMULATOR_CLIENT_PATH"
"""Names the folder with the `modal` client, in containers whose Python environment is the image's own."""

_DEFAULT_PATH = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
"""What `$PATH` is in images; Docker's have their Python in the second of these."""

CERTIFICATE_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")


def inherited(machine: Mapping[str, str], python: OwnPython | None = None) -> dict[str, str]:
    """The allowed part of the machine's environment, with the interpreter's folder first on `PATH`."""
    kept = {name: value for name, value in machine.items() if name in ALLOWED or name.startswith("LC_")}
    folders = [_commands(python), *kept.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")]
    kept["PATH"] = ":".join(dict.fromkeys(folders))
    return kept


def client_path(python: OwnPython | None) -> dict[str, str]:
    """Where an environment of an image's own finds the client (see `images.tree`)."""
    return {} if python is None else {CLIENT_VARIABLE: str(python.client)}


def _commands(python: OwnPython | None) -> str:
    """The folder of the interpreter, and of the commands that packages have brought."""
    return str((Path(sys.executable) if python is None else python.interpreter).parent)


def _images_path(path: str, python: OwnPython | None) -> str:
    """An image's `PATH`, which may have begun as `/more:$PATH`: with the interpreter's folder where Python's is."""
    folders = path.split(":")
    begins = len(folders) - len(_DEFAULT_PATH)
    place = begins if folders[begins:] == _DEFAULT_PATH else 0
    return ":".join(dict.fromkeys([*folders[:place], _commands(python), *folders[place:]]))


def container_environment(
    spec: ContainerSpec,
    machine: Mapping[str, str],
    *,
    home: str,
    temporary: str | None,
    control_socket: str,
    arguments: str,
    source_root: str,
    private_network: bool,
) -> dict[str, str]:
    """All variables of one container.

    `spec.environment` wins over what is inherited, Modal's own variables win over all. `PYTHONPATH` gets `source_root`
    after the container's own entries, as on Modal, where `/root` is importable whatever the image says. A bare
    container has no runtime of the client's, so its user may give it tokens.
    """
    given = {name: value for name, value in spec.environment.items() if spec.bare or not _is_platforms(name)}
    path = [entry for entry in given.pop("PYTHONPATH", "").split(":") if entry]
    return {
        **inherited(machine, spec.python),
        "HOME": home,
        **({"TMPDIR": temporary} if temporary else {}),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        **({"NO_PROXY": _NOT_PROXIED, "no_proxy": _NOT_PROXIED} if private_network else _proxies(machine)),
        **given,
        **({"PATH": _images_path(given["PATH"], spec.python)} if "PATH" in given else {}),
        **client_path(spec.python),
        "PYTHONPATH": ":".join(dict.fromkeys([*path, source_root])),
        "MODAL_TASK_ID": spec.task_id,
        "MODAL_IMAGE_ID": spec.image_id,
        **({} if spec.bare else _runtimes(control_socket, arguments)),
    }


def _runtimes(control_socket: str, arguments: str) -> dict[str, str]:
    """What the client's runtime finds its control plane by."""
    return {
        # With a host: the client speaks without TLS to what commands in containers go through, if it is this machine's.
        "MODAL_SERVER_URL": f"unix://localhost{control_socket}",
        "MODAL_IS_REMOTE": "1",
        "MODAL_CONTAINER_ARGUMENTS_PATH": arguments,
    }


def _proxies(machine: Mapping[str, str]) -> dict[str, str]:
    """The machine's own way to the internet. (A private network has another: see `forward`.)"""
    names = [name for name in machine if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")]
    return {name: machine[name] for name in names}


def _is_platforms(name: str) -> bool:
    """Whether the platform alone decides this variable: a token in an image must not reach the client's runtime."""
    return name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET", "MODAL_CONFIG_PATH", "MODAL_PROFILE")
