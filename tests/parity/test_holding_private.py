"""Only this machine reaches an emulator, only who has its token may deploy or call, and its files are its user's."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.emulator.traces import below, listeners_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.parity.kit import Target

pytestmark = pytest.mark.emulator_only("it is about the emulator's own sockets, files and token")

LOOPBACK = "0100007F:"
"""127.0.0.1, as the kernel writes it."""


def of_process(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def everything_in(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


@pytest.mark.row("How it holds", "only loopback")
def test_every_socket_that_listens_listens_on_loopback(target: Target) -> None:
    app = target.deploy("private.py")
    app.function("environment").remote()
    aws = target.emulator.environment["AWS_ENDPOINT_URL"]
    found = {address for pid in below(os.getpid()) for address in listeners_of(pid)}
    ours = {int(url.rpartition(":")[2]) for url in (target.emulator.server_url, aws, app.url("page"))}
    assert ours <= {int(address.rpartition(":")[2], 16) for address in found}
    assert {address for address in found if not address.startswith(LOOPBACK)} == set()


@pytest.mark.row("How it holds", "the token")
def test_the_token_is_in_no_container_on_no_command_line_and_in_no_file(target: Target) -> None:
    seen: Mapping[str, str] = target.deploy("private.py").function("environment").remote()
    secret = target.emulator.environment["MODAL_TOKEN_SECRET"]
    assert [name for name in seen if name.startswith("MODAL_TOKEN")] == []
    assert [name for name, value in seen.items() if secret in value] == []
    inside = below(os.getpid()) - {os.getpid()}
    assert [pid for pid in inside if secret.encode() in of_process(pid, "cmdline")] == []
    containers = [each.pid for each in target.emulator.containers() if each.pid]
    assert containers
    assert [pid for pid in containers if secret.encode() in of_process(pid, "environ")] == []
    folder = Path(target.emulator.environment["MODAL_CONFIG_PATH"]).parent
    assert [path for path in everything_in(folder) if path.is_file() and secret.encode() in path.read_bytes()] == []


@pytest.mark.row("How it holds", "private files")
def test_what_it_keeps_on_the_disk_is_its_users_alone(target: Target) -> None:
    target.deploy("private.py").function("environment").remote()
    folder = Path(target.emulator.environment["MODAL_CONFIG_PATH"]).parent
    assert any((folder / "s").iterdir()), "each container has a socket there"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    runtime = target.emulator.core._runtime._folder.path  # type: ignore[attr-defined]
    assert any(runtime.iterdir())
    assert stat.S_IMODE(runtime.stat().st_mode) == 0o700


@pytest.mark.row("How it holds", "your own rights")
def test_a_container_runs_as_whoever_runs_the_emulator(target: Target) -> None:
    target.deploy("private.py").function("environment").remote()
    containers = [each.pid for each in target.emulator.containers() if each.pid]
    assert containers
    for pid in containers:
        status = of_process(pid, "status").decode().splitlines()
        assert {line.split()[1] for line in status if line.startswith("Uid:")} <= {str(os.getuid())}
