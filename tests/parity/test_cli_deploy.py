"""`modal deploy`, and what becomes of a deployment: replaced, rolled back, rolled over, staged, stopped."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.parity.kit import Target

SOURCE = """
import time
import modal

app = modal.App("versioned")
VERSION = "first"

@app.function()
def version(seconds: float = 0) -> str:
    print("begun by", VERSION)
    time.sleep(seconds)
    return VERSION

@app.function()
@modal.fastapi_endpoint()
def page():
    return VERSION

@app.function()
def only_in_first() -> int:
    return 1
"""
SECOND = SOURCE.replace('"first"', '"second"').partition("@app.function()\ndef only_in_first")[0]
"""Another version, that lacks a function."""
SOON = 30.0


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """What it wrote to stdout."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def until(condition: Callable[[], bool]) -> None:
    """Asks again until it holds."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline


class Versioned:
    """An app of two versions, in a folder of its own."""

    def __init__(self, target: Target, folder: Path, name: str) -> None:
        self.target = target
        self.folder = folder
        self.name = target.unique(name)

    def deploy(self, source: str, *options: str) -> str:
        (self.folder / "versioned.py").write_text(source)
        return succeeded(self.target.cli("deploy", "--name", self.name, *options, "versioned.py", cwd=self.folder))

    def app(self, *words: str) -> str:
        """`modal app <first word> NAME <others>`."""
        return succeeded(self.target.cli("app", words[0], self.name, *words[1:]))

    def function(self, name: str = "version") -> modal.Function[Any, Any, Any]:
        return modal.Function.from_name(self.name, name, client=self.target.client)

    def history(self) -> list[Mapping[str, str]]:
        lines: list[Mapping[str, str]] = json.loads(self.app("history", "--json"))
        return lines

    def containers(self) -> list[str]:
        info = json.loads(self.app("info", "--json"))
        listed = json.loads(succeeded(self.target.cli("container", "list", "--json", "--app-id", info["app_id"])))
        return [container["container_id"] for container in listed]

    def running(self, seconds: float) -> modal.FunctionCall[Any]:
        """A call that a container works on, for that long."""
        call = self.function().spawn(seconds)
        until(lambda: "begun" in self.app("logs"))
        return call


@pytest.fixture
def deployed(target: Target, tmp_path: Path, request: pytest.FixtureRequest) -> Versioned:
    """The first version."""
    name = re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[:40].strip("-")
    versioned = Versioned(target, tmp_path, name)
    versioned.deploy(SOURCE)
    return versioned


# Deploying


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal deploy")
def test_a_deploy_says_what_it_made_and_the_app_stays(target: Target, deployed: Versioned) -> None:
    written = deployed.deploy(SECOND)
    assert "Created Function version" in written
    assert "App deployed" in written
    assert deployed.function().remote() == "second"
    assert "deployed" in target.cli("app", "list").stdout


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy --name")
def test_the_name_on_the_command_line_is_the_apps(target: Target, deployed: Versioned) -> None:
    listed = json.loads(succeeded(target.cli("app", "list", "--json")))
    states = {app["description"]: app["state"] for app in listed}
    assert states[deployed.name] == "deployed"
    assert "versioned" not in states


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy -m")
def test_deploy_m_takes_a_module(target: Target) -> None:
    name = target.unique("packaged")
    succeeded(target.cli("deploy", "-m", "packaged.whole", "--name", name))
    shown = modal.Function.from_name(name, "show", client=target.client).remote()
    assert shown == "packaged.whole: a part of the package"


@pytest.mark.row("CLI", "modal deploy of what has not changed")
def test_a_deploy_that_changes_nothing_is_skipped_and_no_version(deployed: Versioned) -> None:
    assert "Deployment skipped: no changes detected!" in deployed.deploy(SOURCE)
    assert [line["version"] for line in deployed.history()] == ["v1"]
    assert "App deployed" in deployed.deploy(SECOND)
    assert [line["version"] for line in deployed.history()] == ["v2", "v1"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy --tag")
def test_a_tag_is_shown_in_the_history(deployed: Versioned) -> None:
    deployed.deploy(SECOND, "--tag", "release-7")
    assert [line["tag"] for line in deployed.history()] == ["release-7", None]
    refused = deployed.target.cli("deploy", "--tag", "no tag", "versioned.py", cwd=deployed.folder)
    assert refused.returncode == 1
    assert "no tag" in refused.stderr


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy --stream-logs")
def test_stream_logs_follows_the_deployed_app_until_ctrl_c_which_leaves_it_deployed(deployed: Versioned) -> None:
    (deployed.folder / "versioned.py").write_text(SECOND)
    words = ("deploy", "--name", deployed.name, "--stream-logs", "versioned.py")
    with deployed.target.start(*words, cwd=deployed.folder) as streaming:
        streaming.wait_for("App deployed")
        assert deployed.function().remote() == "second"
        streaming.wait_for("begun by second")
        streaming.interrupt()
    assert deployed.function().remote() == "second"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy")
def test_a_deploy_that_fails_leaves_the_app_as_it_was(deployed: Versioned) -> None:
    missing = SECOND.replace("@app.function()\n", '@app.function(secrets=[modal.Secret.from_name("not-there")])\n', 1)
    (deployed.folder / "versioned.py").write_text(missing)
    refused = deployed.target.cli("deploy", "--name", deployed.name, "versioned.py", cwd=deployed.folder)
    assert refused.returncode == 1
    assert "not-there" in refused.stderr
    assert deployed.function().remote() == "first"


# Containers turned over


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy --strategy rolling")
def test_a_redeploy_lets_old_containers_finish_while_new_inputs_go_to_new_ones(deployed: Versioned) -> None:
    old = deployed.running(4)
    deployed.deploy(SECOND)
    assert deployed.function().remote() == "second"
    with pytest.raises(TimeoutError):
        old.get(timeout=0)
    assert old.get(timeout=SOON) == "first"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal deploy --strategy recreate")
def test_recreate_terminates_old_containers_and_their_inputs_begin_again_in_new_ones(deployed: Versioned) -> None:
    running = deployed.running(2)
    old = deployed.containers()
    written = deployed.deploy(SECOND, "--strategy", "recreate")
    assert "Terminating running containers" in written
    assert not set(old) & set(deployed.containers())
    assert running.get(timeout=SOON) == "second"


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app rollover")
def test_a_rollover_is_a_new_version_of_the_same_with_new_containers(deployed: Versioned) -> None:
    assert deployed.function().remote() == "first"
    old = deployed.containers()
    assert "Rollover completed" in deployed.app("rollover")
    assert deployed.function().remote() == "first"
    assert not set(old) & set(deployed.containers())
    assert [line["version"] for line in deployed.history()] == ["v2", "v1"]


# Going back


@pytest.mark.row("CLI", "modal app rollback")
def test_a_rollback_restores_the_former_version_whole_and_is_a_new_one_itself(deployed: Versioned) -> None:
    deployed.deploy(SECOND)
    assert deployed.function().remote() == "second"
    with pytest.raises(modal.exception.NotFoundError):
        deployed.function("only_in_first").remote()
    assert "Deployment rollback successful" in deployed.app("rollback")
    assert deployed.function().remote() == "first"
    assert deployed.function("only_in_first").remote() == 1
    assert [line["version"] for line in deployed.history()] == ["v3", "v2", "v1"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app rollback")
def test_a_rollback_goes_to_the_version_that_it_is_told_and_keeps_the_addresses(deployed: Versioned) -> None:
    url = deployed.function("page").get_web_url()
    deployed.deploy(SECOND)
    deployed.app("rollback", "v1", "--strategy", "recreate")
    assert deployed.function().remote() == "first"
    assert deployed.function("page").get_web_url() == url
    deployed.app("rollback", "v2")
    assert deployed.function().remote() == "second"
    assert deployed.function("page").get_web_url() == url


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app rollback")
def test_there_is_no_way_back_to_what_never_was(deployed: Versioned) -> None:
    target = deployed.target
    for version in ([], ["v9"]):
        refused = target.cli("app", "rollback", deployed.name, *version)
        assert refused.returncode == 1, refused.stdout
    assert target.cli("app", "rollback", deployed.name, "nine").returncode == 2
    assert deployed.function().remote() == "first"
    deployed.app("stop", "--yes")
    refused = target.cli("app", "rollback", deployed.name)
    assert refused.returncode == 1
    assert "not deployed" in refused.stderr


@pytest.mark.row("CLI", "modal app history")
def test_the_history_shows_every_version_with_its_time_client_and_author(deployed: Versioned) -> None:
    (line,) = deployed.history()
    assert line["version"] == "v1"
    assert line["client"] == modal.__version__
    assert line["time_deployed"].startswith("20")
    assert line["deployed_by"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app promote")
def test_a_staged_deploy_changes_nothing_until_it_is_promoted(deployed: Versioned) -> None:
    deployed.deploy(SECOND, "--staged")
    assert deployed.function().remote() == "first"
    assert "Promoted App to v2" in deployed.app("promote", "v2")
    assert deployed.function().remote() == "second"
    assert [line["version"] for line in deployed.history()] == ["v3", "v2", "v1"]
    deployed.app("rollback", "v1")
    assert deployed.function().remote() == "first"


# Stopping


@pytest.mark.row("CLI", "modal app stop")
def test_a_stopped_app_has_no_functions_and_no_containers_and_its_name_is_free(deployed: Versioned) -> None:
    assert deployed.function().remote() == "first"
    refused = deployed.target.cli("app", "stop", deployed.name)
    assert refused.returncode == 1, "without a terminal it asks for --yes"
    assert "terminate 1 running container" in refused.stdout
    deployed.app("stop", "--yes")
    with pytest.raises(modal.exception.NotFoundError):
        deployed.function().remote()
    again = deployed.target.cli("app", "stop", deployed.name, "--yes")
    assert again.returncode == 1
    assert "already stopped" in again.stderr
    assert "Stopping app - user stopped from CLI.\n" in deployed.app("logs")
    deployed.deploy(SECOND)
    assert deployed.function().remote() == "second"
    assert [line["version"] for line in deployed.history()] == ["v1"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app stop")
def test_stopping_what_is_not_there_is_told_with_the_name_that_was_meant(target: Target, deployed: Versioned) -> None:
    refused = target.cli("app", "stop", deployed.name[:-1], "--yes")
    assert refused.returncode == 1
    assert "No App with name" in refused.stderr
    assert f"modal app stop {deployed.name}" in refused.stderr
