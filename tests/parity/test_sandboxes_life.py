"""A Sandbox from its creation to its end: what it is given, how it is found again, how long it may take."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import modal
import pytest
from modal.exception import (
    AlreadyExistsError,
    ConflictError,
    InvalidError,
    NotFoundError,
    SandboxTerminatedError,
    SandboxTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.parity.kit import Target

SOON = 30.0


@pytest.fixture(params=["second", pytest.param("first", marks=pytest.mark.slow)])
def made(
    request: pytest.FixtureRequest, target: Target, sandbox_app: modal.App, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., modal.Sandbox]]:
    """Creates Sandboxes of each of Modal's kinds, and ends them after the test."""
    monkeypatch.setenv("MODAL_SANDBOX_V2", "1" if request.param == "second" else "0")
    sandboxes: list[modal.Sandbox] = []

    def create(*words: str, **options: Any) -> modal.Sandbox:
        app = options.pop("app", sandbox_app)
        sandboxes.append(modal.Sandbox.create(*words, app=app, client=target.client, **options))
        return sandboxes[-1]

    yield create
    for sandbox in sandboxes:
        sandbox.terminate()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.row("Sandboxes", "Sandbox.create")
@pytest.mark.row("Sandboxes", "wait, poll, returncode")
@pytest.mark.row("Sandboxes", "stdout, stderr, stdin")
def test_a_command_runs_to_its_end_and_its_streams_are_read_and_written(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sh", "-c", "echo ready; read line; echo got $line; echo wrong >&2; exit 3")
    assert sandbox.poll() is None
    assert sandbox.returncode is None
    lines = iter(sandbox.stdout)
    assert next(lines) == "ready\n"
    sandbox.stdin.write("a line\n")
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    assert next(lines) == "got a line\n"
    sandbox.wait()
    assert sandbox.returncode == sandbox.poll() == 3
    assert sandbox.stderr.read() == "wrong\n"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "wait, poll, returncode")
def test_a_command_that_a_signal_ends_has_its_number_and_128(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sh", "-c", "kill -TERM $$")
    sandbox.wait()
    assert sandbox.returncode == 143


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "stdout, stderr, stdin")
def test_the_end_of_stdin_is_seen_and_long_characters_stay_whole(
    made: Callable[..., modal.Sandbox],
) -> None:
    sandbox = made("cat")
    text = "żółw €\n" * 30_000
    for start in range(0, len(text), 50_000):
        sandbox.stdin.write(text[start : start + 50_000])
        sandbox.stdin.drain()
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    assert sandbox.stdout.read() == text
    with pytest.raises(ValueError, match="closed"):
        sandbox.stdin.write("more")


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "stdout, stderr, stdin")
@pytest.mark.emulator_only("how much Modal keeps is not documented")
def test_of_a_very_long_output_the_last_part_is_kept(target: Target, made: Callable[..., modal.Sandbox]) -> None:
    app = modal.App.lookup(target.unique("long-output"), create_if_missing=True, client=target.client)
    sandbox = made("sh", "-c", "head -c 40000000 /dev/zero | tr '\\0' x; echo; echo end", app=app)
    sandbox.wait()
    kept = sandbox.stdout.read()
    assert kept.endswith("x\nend\n")
    assert len(kept) == 16 << 20


@pytest.mark.row("Sandboxes", "Sandbox.create without a command")
@pytest.mark.row("Sandboxes", "terminate")
def test_without_a_command_it_sleeps_until_it_is_terminated(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made()
    assert sandbox.exec("echo", "there").stdout.read() == "there\n"
    assert sandbox.poll() is None
    assert sandbox.terminate(wait=True) == 137
    with pytest.raises(SandboxTerminatedError):
        sandbox.wait()
    sandbox.terminate()


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "Sandbox.create without a command")
def test_an_images_own_command_is_run_and_its_entrypoint_always(made: Callable[..., modal.Sandbox]) -> None:
    image = modal.Image.debian_slim().entrypoint(["echo", "entered"]).cmd(["with", "its own"])
    assert made(image=image).stdout.read() == "entered with its own\n"
    assert made("otherwise", image=image).stdout.read() == "entered otherwise\n"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "terminate")
def test_what_has_been_terminated_runs_no_more_commands(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made()
    waiting = sandbox.exec("sleep", "1000")
    sandbox.terminate(wait=True)
    assert waiting.wait() == 137
    with pytest.raises((NotFoundError, ConflictError)):
        sandbox.exec("true")


@pytest.mark.row("Sandboxes", "env, secrets")
@pytest.mark.row("Sandboxes", "image, workdir")
@pytest.mark.row("Sandboxes", "cpu, memory, gpu, region, cloud, runtime")
def test_what_it_is_given_is_there_and_what_it_is_not_is_not(
    made: Callable[..., modal.Sandbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_DEVELOPER", "secret")
    sandbox = made(
        "sh",
        "-c",
        "echo $OF_IMAGE $OF_SECRET $OF_ENV; pwd; cat /there/note.txt; echo $MODAL_SANDBOX_ID; env",
        image=modal.Image.debian_slim().env({"OF_IMAGE": "i"}).add_local_file(__file__, "/there/note.txt"),
        env={"OF_ENV": "e", "NOTHING": None},
        secrets=[modal.Secret.from_dict({"OF_SECRET": "s"})],
        workdir="/somewhere",
        cpu=0.5,
        memory=(128, 256),
        region="us-east",
        verbose=True,
    )
    said = sandbox.stdout.read()
    first, folder, *_ = said.splitlines()
    assert (first, folder) == ("i s e", "/somewhere")
    assert "test_what_it_is_given_is_there" in said
    assert f"\n{sandbox.object_id}\n" in said
    for name in ("OF_THE_DEVELOPER", "NOTHING", "MODAL_TOKEN_SECRET", "MODAL_IS_REMOTE"):
        assert f"\n{name}=" not in said
    assert "\nMODAL_REGION=us-east\n" in said


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("Sandboxes", "cpu, memory, gpu, region, cloud, runtime")
@pytest.mark.emulator_only("a GPU costs money")
def test_a_gpu_a_cloud_and_a_runtime_can_be_asked_for(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sh", "-c", "echo $MODAL_CLOUD_PROVIDER", gpu="T4", cloud="aws", runtime="vm")
    assert sandbox.stdout.read() == "aws\n"


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "env, secrets")
def test_a_secret_that_is_not_there_fails_the_creation(made: Callable[..., modal.Sandbox]) -> None:
    with pytest.raises(NotFoundError):
        made("true", secrets=[modal.Secret.from_name("no-such-secret")])


@pytest.mark.row("Sandboxes", "volumes")
def test_a_volume_is_shared_by_sandboxes(target: Target, made: Callable[..., modal.Sandbox]) -> None:
    with modal.Volume.ephemeral(client=target.client) as volume:
        early = made("sleep", "1000", volumes={"/data": volume.read_only()})
        assert early.exec("ls", "/data").stdout.read() == ""
        writer = made("sh", "-c", "echo kept > /data/file", volumes={"/data": volume})
        writer.wait()
        late = made("cat", "/data/file", volumes={"/data": volume.read_only()})
        assert late.stdout.read() == "kept\n"
        assert early.exec("ls", "/data").stdout.read() == ""
        early.reload_volumes()
        assert early.exec("cat", "/data/file").stdout.read() == "kept\n"


@pytest.mark.row("Sandboxes", "timeout")
def test_its_time_is_over_after_its_timeout(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sleep", "1000", timeout=1)
    with pytest.raises(SandboxTimeoutError):
        sandbox.wait()
    assert sandbox.returncode == 124


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "timeout")
def test_more_than_a_day_is_refused(made: Callable[..., modal.Sandbox]) -> None:
    with pytest.raises(InvalidError, match="86400"):
        made("true", timeout=24 * 3600 + 1)


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "idle_timeout")
def test_one_that_nobody_uses_ends_after_its_idle_timeout(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sleep", "1000", idle_timeout=2)
    used = sandbox.exec("sleep", "4")
    assert used.wait() == 0
    assert sandbox.poll() is None
    until(lambda: sandbox.poll() is not None)
    assert sandbox.returncode == 137


@pytest.mark.row("Sandboxes", "Sandbox.from_id")
@pytest.mark.row("Sandboxes", "Sandbox.list, tags")
@pytest.mark.row("Sandboxes", "name, Sandbox.from_name")
def test_it_is_found_by_its_id_its_name_its_app_and_its_tags(
    target: Target, sandbox_app: modal.App, made: Callable[..., modal.Sandbox]
) -> None:
    name = target.unique("named")
    sandbox = made(name=name, tags={"kind": "named"})
    found = modal.Sandbox.from_id(sandbox.object_id, client=target.client)
    assert found.exec("echo", "hi").stdout.read() == "hi\n"
    assert sandbox_app.name is not None
    by_name = modal.Sandbox.from_name(sandbox_app.name, name, client=target.client)
    assert by_name.object_id == sandbox.object_id
    with pytest.raises(AlreadyExistsError, match=name):
        made(name=name)

    def listed(**tags: str) -> list[str]:
        there = modal.Sandbox.list(app_id=sandbox_app.app_id, tags=tags, client=target.client)
        return [one.object_id for one in there]

    assert listed(kind="named") == [sandbox.object_id]
    assert sandbox.object_id in listed()
    sandbox.set_tags({"kind": "other", "more": "yes"})
    assert found.get_tags() == {"kind": "other", "more": "yes"}
    assert listed(kind="named") == []
    sandbox.terminate(wait=True)
    assert listed(kind="other") == []
    assert modal.Sandbox.from_id(sandbox.object_id, client=target.client).returncode == 137
    with pytest.raises(NotFoundError):
        modal.Sandbox.from_name(sandbox_app.name, name, client=target.client)
    with pytest.raises(NotFoundError):
        modal.Sandbox.from_id("sb-" + "x" * (len(sandbox.object_id) - 3), client=target.client)


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("Sandboxes", "name, Sandbox.from_name")
def test_the_last_of_a_name_is_found_also_once_it_has_ended(
    target: Target, sandbox_app: modal.App, made: Callable[..., modal.Sandbox]
) -> None:
    name = target.unique("ended")
    assert sandbox_app.name is not None
    made("true", name=name).wait()
    last = made("sh", "-c", "exit 4", name=name)
    last.wait()
    found = modal.Sandbox.from_name(sandbox_app.name, name, include_terminated=True, client=target.client)
    assert found.object_id == last.object_id


@pytest.mark.row("Sandboxes", "pty")
def test_with_a_terminal_all_output_is_stdout(made: Callable[..., modal.Sandbox]) -> None:
    sandbox = made("sh", "-c", "test -t 0 && test -t 1 && test -t 2 && echo terminal >&2", pty=True)
    assert sandbox.stdout.read() == "terminal\r\n"
    assert sandbox.stderr.read() == ""


@pytest.mark.row("Sandboxes", "readiness_probe")
def test_who_waits_for_its_readiness_is_told_when_its_probe_holds(made: Callable[..., modal.Sandbox]) -> None:
    script = "sleep 0.3; touch /tmp/ready; sleep 1000"
    sandbox = made("sh", "-c", script, readiness_probe=modal.Probe.with_exec("test", "-e", "/tmp/ready"))
    sandbox.wait_until_ready(timeout=30)
    assert sandbox.exec("ls", "/tmp/ready").wait() == 0


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "readiness_probe")
def test_a_port_that_is_listened_on_is_ready_and_one_that_never_is_is_not(made: Callable[..., modal.Sandbox]) -> None:
    listening = made("python", "-m", "http.server", "7171", readiness_probe=modal.Probe.with_tcp(7171))
    listening.wait_until_ready(timeout=30)
    never = made(readiness_probe=modal.Probe.with_tcp(7171))
    with pytest.raises(modal.exception.TimeoutError):
        never.wait_until_ready(timeout=1)
    ended = made("true", readiness_probe=modal.Probe.with_tcp(7171))
    with pytest.raises(ConflictError):
        ended.wait_until_ready(timeout=30)
    with pytest.raises(InvalidError, match="readiness_probe"):
        made().wait_until_ready(timeout=1)


@pytest.mark.slow
@pytest.mark.row("Sandboxes", "logs")
def test_what_it_writes_is_in_its_own_logs_and_in_its_apps(
    target: Target, sandbox_app: modal.App, made: Callable[..., modal.Sandbox]
) -> None:
    sandbox = made("sh", "-c", "echo this is logged; echo that too >&2")
    sandbox.wait()
    until(lambda: "this is logged" in target.cli("container", "logs", sandbox.object_id, "--all").stdout)
    assert sandbox_app.name is not None
    assert "that too" in target.cli("app", "logs", sandbox_app.name, "--source", "stderr").stdout
