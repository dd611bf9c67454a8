"""The only place of the project that touches the client's private names.

It runs on the container's side (see `guest`): in the warm process `preimport`, in a container `run_container`. Tested
with the versions in `TESTED`; outside them a warning says so, and where a name is missing the error says which.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from pathlib import Path

TESTED = ((1, 5, 5), (1, 7))
"""The client's versions that this module is tested with: from, and up to but without."""
OLDEST = (1, 5)
"""Before this the container runtime is laid out differently: refused."""

_RUNTIME = "modal._container_entrypoint"
_PREIMPORTS = (
    _RUNTIME,
    "modal._runtime.asgi",
    "modal.experimental",
    "grpclib.client",
    "grpclib.protocol",
    "asyncio.unix_events",
    "concurrent.futures.thread",
    "encodings.idna",
    "multiprocessing",
    "queue",
    "tempfile",
    "runpy",
)


class IncompatibleClientError(Exception):
    """The installed `modal` is not one that the emulator can run containers with: the message says why."""


def version_of_client() -> tuple[int, ...]:
    """The installed client's version, e.g. (1, 6, 4). Raises `IncompatibleClientError` when there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        text = version("modal")
    except PackageNotFoundError:
        raise IncompatibleClientError(f"modal is not installed for {sys.executable}: `pip install modal`") from None
    return parse_version(text)


def parse_version(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: `1.6.4.dev3` is (1, 6, 4)."""
    numbers = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def judge_version(found: tuple[int, ...]) -> str | None:
    """A warning about this version of the client, if one is due. Raises `IncompatibleClientError` for one too old."""
    name, lowest, beyond = (".".join(map(str, v)) for v in (found, *TESTED))
    if found < OLDEST:
        raise IncompatibleClientError(f"modal {name} is too old for the emulator: install modal>={lowest},<{beyond}")
    if not TESTED[0] <= found < TESTED[1]:
        return f"modal {name} is outside the range that the emulator is tested with (>={lowest}, <{beyond})"
    return None


def preimport() -> str | None:
    """Import the client's container runtime and what it will need. Returns a warning about the version, if one is due.

    Starts no thread and no event loop, so that the process may fork afterwards.
    Raises `IncompatibleClientError` where the runtime is not what this module knows.
    """
    warning = judge_version(version_of_client())
    for name in _PREIMPORTS:
        try:
            importlib.import_module(name)
        except ImportError as error:
            if name == _RUNTIME:
                raise IncompatibleClientError(f"modal has no container runtime at {name}: {error}") from error
    return warning


def run_container() -> int | None:
    """Be a Modal container: run the client's container runtime for `MODAL_CONTAINER_ARGUMENTS_PATH` until it is done.

    Returns the exit status. A failure of user code has been reported to the control plane by the runtime and is
    status 0, as in Modal's own entry point.
    """
    try:
        from modal._container_entrypoint import UserException, main  # type: ignore[attr-defined]
        from modal.client import Client
        from modal_proto import api_pb2
    except ImportError as error:
        raise IncompatibleClientError(f"this modal's container runtime has changed: {error}") from error
    _apply_log_level()
    arguments = api_pb2.ContainerArguments()
    arguments.ParseFromString(Path(os.environ["MODAL_CONTAINER_ARGUMENTS_PATH"]).read_bytes())
    try:
        main(arguments, Client.from_env())
    except UserException:
        return 0
    except KeyboardInterrupt:
        return 0
    return 0


def _apply_log_level() -> None:
    """The client read its log level when it was imported, in the warm process: read it again in the container."""
    level = os.environ.get("MODAL_LOGLEVEL", "WARNING").upper()
    for name in ("modal-client", "modal-utils"):
        logger = logging.getLogger(name)
        try:
            logger.setLevel(level)
            for handler in logger.handlers:
                handler.setLevel(level)
        except ValueError:
            warnings.warn(f"MODAL_LOGLEVEL={level} is no log level", stacklevel=1)
