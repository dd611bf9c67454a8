"""Commands in a Sandbox that runs: `exec`, with its streams, its time and its end; tunnels; what is not there."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import modal
import pytest
from modal.exception import ConflictError, InvalidError, UnimplementedError
from modal.stream_type import StreamType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.parity.kit import Target

SOON = 30.0


@pytest.fixture(scope="module")
def box(target: Target, sandbox_app: modal.App) -> Iterator[modal.Sandbox]:
    """A Sandbox for commands."""
    sandbox = modal.Sandbox.create(app=sandbox_app, client=target.client, timeout=600, env={"OWN": "of the Sandbox"})
    yield sandbox
    sandbox.terminate()


@pytest.mark.row("Sandboxes", "exec")
def test_a_commands_output_is_read_whole_and_its_code_told(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "echo out; echo err >&2; exit 5")
    assert (process.stdout.read(), process.stderr.read()) == ("out\n", "err\n")
    assert process.wait() == process.returncode == process.poll() == 5


@pytest.mark.row("Sandboxes", "exec: stdout, stderr")
def test_output_is_read_by_lines_while_the_command_runs(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "echo one; read go; printf 'two\\nthree'", bufsize=1)
    lines = iter(process.stdout)
    assert next(lines) == "one\n"
    assert process.poll() is None
    process.stdin.write(b"go\n")
    process.stdin.drain()
    assert list(lines) == ["two\n", "three"]


@pytest.mark.row("Sandboxes", "exec: stdin")
def test_stdin_is_written_in_pieces_and_ended(box: modal.Sandbox) -> None:
    process = box.exec("wc", "-c")
    for _ in range(3):
        process.stdin.write(b"x" * 1_000_000)
        process.stdin.drain()
    process.stdin.write_eof()
    process.stdin.drain()
    assert process.stdout.read().strip() == "3000000"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec: stdin")
def test_writing_to_a_command_that_has_ended_is_a_conflict(box: modal.Sandbox) -> None:
    process = box.exec("true")
    process.wait()
    process.stdin.write("too late")
    with pytest.raises(ConflictError):
        process.stdin.drain()


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec: stdout, stderr")
def test_a_hundred_megabytes_of_bytes_are_read_as_they_are(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "head -c 100000000 /dev/zero; printf '\\377end'", text=False)
    size, last = 0, b""
    for piece in process.stdout:
        size += len(piece)
        last = (last + piece)[-4:]
    assert (size, last) == (100_000_004, b"\xffend")
    assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec: stdout, stderr")
def test_output_may_be_dropped_or_printed_here(box: modal.Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    process = box.exec("sh", "-c", "echo seen; echo unseen >&2", stdout=StreamType.STDOUT, stderr=StreamType.DEVNULL)
    assert process.wait() == 0
    with pytest.raises(InvalidError):
        process.stdout.read()
    deadline = time.monotonic() + SOON
    printed = ""
    while "seen\n" not in printed:
        assert time.monotonic() < deadline
        printed += capfd.readouterr().out
    assert "unseen" not in printed


@pytest.mark.row("Sandboxes", "exec: workdir, env, secrets")
def test_a_command_has_the_sandboxes_environment_and_its_own_on_top(box: modal.Sandbox) -> None:
    process = box.exec(
        "sh",
        "-c",
        "echo $OWN, $ADDED, $SECRET; pwd",
        env={"ADDED": "added"},
        secrets=[modal.Secret.from_dict({"SECRET": "secret"})],
        workdir="/usr",
    )
    assert process.stdout.read() == "of the Sandbox, added, secret\n/usr\n"
    assert box.exec("sh", "-c", "echo $ADDED").stdout.read() == "\n"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec: timeout")
def test_a_command_is_ended_when_its_time_is_over(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "echo $$; sleep 1000", timeout=1)
    assert process.wait() == -1
    pid = process.stdout.read().strip()
    assert pid == "" or box.exec("sh", "-c", f"test ! -e /proc/{pid}").wait() == 0


@pytest.mark.row("Sandboxes", "exec: exit codes")
def test_a_signals_number_and_128_is_the_code(box: modal.Sandbox) -> None:
    assert box.exec("sh", "-c", "kill -SEGV $$").wait() == 139


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec: exit codes")
@pytest.mark.emulator_only("what Modal tells of it is not documented")
def test_a_command_that_is_not_there_is_127_and_says_so(box: modal.Sandbox) -> None:
    process = box.exec("no-such-command")
    assert process.wait() == 127
    assert process.stderr.read() == "no-such-command: No such file or directory\n"


@pytest.mark.row("Sandboxes", "exec: pty")
def test_a_command_may_have_a_terminal(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "test -t 0 && read line && echo got $line >&2", pty=True)
    process.stdin.write("hello\n")
    process.stdin.drain()
    assert process.wait() == 0
    assert process.stdout.read() == "hello\r\ngot hello\r\n"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec")
def test_many_commands_run_at_once_and_see_each_other(box: modal.Sandbox) -> None:
    processes = [box.exec("sh", "-c", f"echo {number} > /tmp/at-once-{number}; sleep 0.2") for number in range(20)]
    assert [process.wait() for process in processes] == [0] * 20
    assert box.exec("sh", "-c", "cat /tmp/at-once-* | wc -l").stdout.read().strip() == "20"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "exec")
def test_what_a_command_leaves_behind_runs_on_and_does_not_hold_it_up(box: modal.Sandbox) -> None:
    process = box.exec("sh", "-c", "echo at once; (sleep 1; echo late; touch /tmp/left-behind) &")
    assert process.wait() == 0
    assert process.stdout.read() == "at once\n"
    waiting = box.exec("sh", "-c", "until test -e /tmp/left-behind; do sleep 0.1; done", timeout=30)
    assert waiting.wait() == 0


@pytest.mark.row("Sandboxes", "detach")
def test_a_handle_that_is_detached_leaves_the_sandbox_running(target: Target, box: modal.Sandbox) -> None:
    other = modal.Sandbox.from_id(box.object_id, client=target.client)
    assert other.exec("true").wait() == 0
    other.detach()
    with pytest.raises(modal.exception.ClientClosed):
        other.exec("true")
    assert box.exec("true").wait() == 0


# Tunnels


@pytest.fixture(scope="module")
def serving(target: Target, sandbox_app: modal.App) -> Iterator[modal.Sandbox]:
    """A Sandbox that serves its own folder on port 8000, and says what it hears on 9000."""
    echo = "import socketserver as s; s.TCPServer(('', 9000), type('H', (s.BaseRequestHandler,), "
    echo += "{'handle': lambda self: self.request.sendall(self.request.recv(99).upper())})).serve_forever()"
    sandbox = modal.Sandbox.create(
        "sh",
        "-c",
        f'echo served > /tmp/file; python -m http.server 8000 --directory /tmp & python -c "{echo}"',
        app=sandbox_app,
        client=target.client,
        encrypted_ports=[8000],
        unencrypted_ports=[9000],
        readiness_probe=modal.Probe.with_tcp(8000),
        timeout=600,
    )
    sandbox.wait_until_ready(timeout=60)
    yield sandbox
    sandbox.terminate()


def soon(ask: Callable[[], Any]) -> Any:
    """Its answer, asked for until it is there."""
    deadline = time.monotonic() + SOON
    while True:
        try:
            return ask()
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.row("Sandboxes", "encrypted_ports, h2_ports, unencrypted_ports, tunnels")
def test_a_port_is_reached_through_its_tunnel(serving: modal.Sandbox) -> None:
    tunnels = serving.tunnels()
    assert tunnels[8000].url.startswith("https://")
    trusting = ssl._create_unverified_context() if tunnels[8000].host == "127.0.0.1" else None
    with urllib.request.urlopen(f"{tunnels[8000].url}/file", context=trusting, timeout=SOON) as answer:
        assert answer.read() == b"served\n"
    with pytest.raises(InvalidError, match="unencrypted"):
        _ = tunnels[8000].tcp_socket

    def shouted() -> bytes:
        with socket.create_connection(tunnels[9000].tcp_socket, timeout=SOON) as connection:
            connection.sendall(b"hello")
            return connection.recv(99)

    assert soon(shouted) == b"HELLO"
    with (
        socket.create_connection(tunnels[9000].tls_socket, timeout=SOON) as plain,
        (trusting or ssl.create_default_context()).wrap_socket(plain, server_hostname=tunnels[9000].host) as encrypted,
    ):
        encrypted.sendall(b"again")
        assert encrypted.recv(99) == b"AGAIN"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "encrypted_ports, h2_ports, unencrypted_ports, tunnels")
@pytest.mark.emulator_only("where there are namespaces; and ports of this machine")
def test_sandboxes_listen_on_the_same_port_and_a_tunnel_ends_with_its_own(
    target: Target, sandbox_app: modal.App, serving: modal.Sandbox
) -> None:
    other = modal.Sandbox.create(
        "python", "-m", "http.server", "8000", app=sandbox_app, client=target.client, h2_ports=[8000]
    )
    tunnel = other.tunnels()[8000]
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(tunnel.tls_socket, timeout=SOON) as plain,
        context.wrap_socket(plain, server_hostname=tunnel.host) as encrypted,
    ):
        assert encrypted.selected_alpn_protocol() == "h2"
    other.terminate(wait=True)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tunnel.tls_socket, timeout=SOON)
    assert serving.poll() is None


# What is not there


def refused(what: Callable[[], object], name: str) -> None:
    with pytest.raises(UnimplementedError, match=name):
        what()


@pytest.mark.slow
@pytest.mark.emulator_only("real Modal does it")
@pytest.mark.row("Sandboxes", "snapshot_filesystem, snapshot_directory, mount_image")
def test_snapshots_are_refused_by_name(box: modal.Sandbox) -> None:
    refused(box.snapshot_filesystem, "TaskSnapshotFilesystem")
    refused(lambda: box.snapshot_directory("/tmp"), "TaskSnapshotDirectory")
    refused(lambda: box.mount_image("/mnt", modal.Image.from_scratch()), "TaskMountDirectory")
    refused(lambda: box.unmount_image("/mnt"), "TaskUnmountDirectory")


@pytest.mark.slow
@pytest.mark.emulator_only("real Modal does it")
@pytest.mark.row("Sandboxes", "create_connect_token")
def test_connect_tokens_are_refused_by_name(box: modal.Sandbox) -> None:
    refused(box.create_connect_token, "SandboxCreateConnectToken")


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.emulator_only("real Modal does it")
@pytest.mark.row("Sandboxes", "experimental: memory snapshots, sidecars, persistent Sandboxes")
def test_what_is_experimental_is_refused_by_name(target: Target, sandbox_app: modal.App, box: modal.Sandbox) -> None:
    refused(box._experimental_snapshot, "TaskSnapshotMemory")
    image = modal.Image.debian_slim().build(sandbox_app)
    sidecars = box._experimental_sidecars
    refused(lambda: sidecars.create("true", name="side", image=image), "SandboxContainerCreateV2")
    refused(lambda: box._experimental_set_outbound_network_policy(outbound_cidr_allowlist=[]), "TaskSetNetworkAccess")
    persistent: dict[str, Any] = {"_experimental_persistent": True, "timeout": None}
    refused(
        lambda: modal.Sandbox.create(app=sandbox_app, client=target.client, **persistent), "PersistentSandboxCreate"
    )


@pytest.mark.slow
@pytest.mark.emulator_only("real Modal does it")
@pytest.mark.row("Sandboxes", "outbound_cidr_allowlist, outbound_domain_allowlist, inbound_cidr_allowlist")
@pytest.mark.row("Sandboxes", "proxy, custom_domain, include_oidc_identity_token")
@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"outbound_cidr_allowlist": ["10.0.0.0/8"]}, "outbound_cidr_allowlist"),
        ({"outbound_domain_allowlist": ["example.com"]}, "outbound_domain_allowlist"),
        ({"inbound_cidr_allowlist": ["10.0.0.0/8"]}, "inbound_cidr_allowlist"),
        ({"custom_domain": "example.com"}, "custom_domain"),
        ({"include_oidc_identity_token": True}, "include_oidc_identity_token"),
    ],
)
def test_what_plain_processes_can_not_be_given_is_refused_by_name(
    target: Target, sandbox_app: modal.App, options: dict[str, Any], name: str
) -> None:
    refused(lambda: modal.Sandbox.create(app=sandbox_app, client=target.client, **options), name)


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "block_network")
@pytest.mark.emulator_only("where there are namespaces")
def test_a_sandbox_whose_network_is_blocked_reaches_nothing(target: Target, sandbox_app: modal.App) -> None:
    script = "import os, socket; print(socket.create_connection(('127.0.0.1', int(os.environ['PORT'])), 5))"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        given = {"PORT": str(listener.getsockname()[1])}
        sandbox = modal.Sandbox.create(
            "python", "-c", script, app=sandbox_app, client=target.client, block_network=True, env=given
        )
        sandbox.wait()
    assert sandbox.returncode == 1
    assert "ConnectionRefusedError" in sandbox.stderr.read()
