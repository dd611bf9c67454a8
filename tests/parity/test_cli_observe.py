"""Looking at what runs: `modal app`, `container`, `function` and `server`, their lists, logs and figures."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.parity.kit import DeployedApp, Target

SOON = 30.0


@pytest.fixture(scope="module")
def observed(target: Target) -> DeployedApp:
    """An app in which something has happened: two calls of `say`, one of `fail`, one of a method."""
    app = target.deploy("observed.py")
    assert app.function("say").remote("one") == "one"
    assert app.function("say").remote("two") == "two"
    with pytest.raises(ValueError, match="as it was told"):
        app.function("fail").remote()
    app.cls("Greeter")(greeting="hi").greet.remote("you")
    until(lambda: "hi, you" in said(target, "app", "logs", app.name))
    return app


def said(target: Target, *words: str) -> str:
    """What a command writes to stdout that succeeds."""
    done = target.cli(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def told(target: Target, *words: str) -> Any:
    """The same of one that answers in JSON."""
    return json.loads(said(target, *words, "--json"))


def until(condition: Callable[[], bool]) -> None:
    """Asks again until it holds."""
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline


def task_of(target: Target, app: DeployedApp, line: str) -> str:
    """The container that wrote that line."""
    logs = said(target, "app", "logs", app.name, "--search", line, "--show-container-id")
    return re.findall(r"ta-\w+", logs)[-1]


# Apps


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal app list")
def test_apps_are_listed_with_their_state_and_their_containers(target: Target, observed: DeployedApp) -> None:
    (listed,) = [app for app in told(target, "app", "list") if app["description"] == observed.name]
    assert listed["state"] == "deployed"
    assert int(listed["tasks"]) >= 1
    assert re.fullmatch(r"ap-\w{22}", listed["app_id"])
    assert listed["stopped_at"] is None
    assert len(told(target, "app", "list", "--limit", "1")) == 1


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app list")
@pytest.mark.row("CLI", "modal container list")
def test_what_is_in_an_environment_that_is_not_there_is_not_listed_but_refused(target: Target) -> None:
    for what in ("app", "container"):
        refused = target.cli(what, "list", "--env", "nowhere-at-all")
        assert refused.returncode == 1
        assert "nowhere-at-all" in refused.stderr


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal app info")
def test_an_apps_info_names_its_functions_and_servers_and_what_they_are(target: Target, observed: DeployedApp) -> None:
    info = told(target, "app", "info", observed.name)
    assert info["lifecycle"]["state"] == "deployed"
    assert info["lifecycle"]["version"] == 1
    assert set(info["functions"]) == {"say", "fail", "on_a_gpu", "die", "Greeter.*", "Tidy.*", "page"}
    assert set(info["servers"]) == {"Files", "Guarded"}
    assert info["functions"]["on_a_gpu"]["summary"]["gpu_config"] == [{"gpu_type": "T4", "count": 1}]
    assert info["functions"]["page"]["summary"]["web_function"] is True
    assert info["servers"]["Guarded"]["summary"]["authenticated"] is True


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal app stats")
def test_an_apps_stats_count_calls_failures_and_containers(target: Target, observed: DeployedApp) -> None:
    stats = told(target, "app", "stats", observed.name)
    assert stats["functions"]["by_name"]["fail"]["counts"]["calls"] == {"total": 1, "succeeded": 0, "failed": 1}
    assert stats["functions"]["by_name"]["Greeter.*"]["counts"]["calls"]["succeeded"] == 1
    assert stats["functions"]["by_name"]["say"]["counts"]["containers"]["total"] >= 1
    assert stats["deployment_count"] == 1


# Logs of apps


@pytest.mark.row("CLI", "modal app logs")
def test_logs_are_whole_lines_of_every_container_in_order(target: Target, observed: DeployedApp) -> None:
    lines = said(target, "app", "logs", observed.name).splitlines()
    assert lines.index("says one") < lines.index("says two") < lines.index("hi, you")
    assert lines.count("says one") == 1


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal app logs: filters")
def test_logs_are_filtered_by_text_stream_function_container_and_call(target: Target, observed: DeployedApp) -> None:
    def logs(*options: str) -> list[str]:
        return said(target, "app", "logs", observed.name, *options).splitlines()

    assert logs("--search", "complains of t") == ["complains of two"]
    assert {line.split()[0] for line in logs("--source", "stderr", "--search", " of ")} == {"complains"}
    greeter = told(target, "app", "info", observed.name)["functions"]["Greeter.*"]["id"]
    assert logs("--function", greeter) == ["hi, you"]
    task = task_of(target, observed, "hi, you")
    assert logs("--container", task) == ["hi, you"]
    prefixed = logs("--show-function-call-id", "--search", "says one")
    call = re.findall(r"fc-\w+", prefixed[0])[0]
    assert sorted(logs("--function-call", call)) == ["complains of one", "says one"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app logs: ranges")
def test_logs_are_cut_to_a_range_of_time_and_to_the_last_entries(target: Target, observed: DeployedApp) -> None:
    def logs(*options: str) -> list[str]:
        return said(target, "app", "logs", observed.name, *options).splitlines()

    assert len(logs("--tail", "2")) == 2
    assert "says one" in logs("--since", "10m")
    assert logs("--since", "10m", "--until", "5m") == []
    assert "says one" not in logs("--since", datetime.now(UTC).isoformat())
    stamped = logs("--timestamps", "--search", "says one")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* says one", stamped[0])
    assert target.cli("app", "logs", observed.name, "--since", "1m", "--until", "2m").returncode == 2


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app logs --follow")
def test_follow_shows_new_lines_as_they_come_until_the_app_stops(target: Target) -> None:
    app = target.deploy("commands.py", name="followed")
    greet = app.function("greet")
    greet.remote("before")
    with target.start("app", "logs", app.name, "--follow") as following:
        until(lambda: bool(greet.remote("after")) and "greeting after\n" in following.output)
        said(target, "app", "stop", app.name, "--yes")
        assert following.wait(within=SOON) == 0
        assert "Stopping app - user stopped from CLI." in following.output


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app logs")
def test_a_container_that_dies_is_told_in_the_log(target: Target, observed: DeployedApp) -> None:
    call = observed.function("die").spawn()
    died = "Runner failed with exit code: 3\n"
    until(lambda: died in said(target, "app", "logs", observed.name, "--source", "system"))
    call.cancel()


@pytest.mark.slow
@pytest.mark.row("CLI", "modal app dashboard")
def test_the_dashboard_of_an_app_is_an_address_to_open(target: Target, observed: DeployedApp) -> None:
    assert "https://modal.com/id/ap-" in said(target, "app", "dashboard", observed.name)


# Containers


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal container list")
def test_containers_are_listed_by_app_and_environment(target: Target, observed: DeployedApp) -> None:
    app_id = told(target, "app", "info", observed.name)["app_id"]
    observed.function("say").remote("three")
    listed = told(target, "container", "list", "--app-id", app_id)
    assert {container["app_id"] for container in listed} == {app_id}
    assert {container["app_name"] for container in listed} == {observed.name}
    everywhere = [container["container_id"] for container in told(target, "container", "list")]
    assert {container["container_id"] for container in listed} <= set(everywhere)


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal container logs")
def test_the_logs_of_a_container_are_its_own_lines_also_after_it_has_ended(
    target: Target, observed: DeployedApp
) -> None:
    observed.cls("Greeter")(greeting="hi").greet.remote("again")
    task = task_of(target, observed, "hi, again")
    assert "hi, again\n" in said(target, "container", "logs", task)
    assert said(target, "container", "logs", task, "--search", "again") == "hi, again\n"
    said(target, "container", "stop", task, "--yes")
    assert "hi, again\n" in said(target, "container", "logs", task, "--all")
    said(target, "container", "logs", task, "--follow")  # ends, since nothing new will come


@pytest.mark.slow
@pytest.mark.row("CLI", "modal container logs")
def test_a_container_that_never_was_has_no_logs(target: Target) -> None:
    refused = target.cli("container", "logs", "ta-01HXXXXXXXXXXXXXXXXXXXXXXX")
    assert refused.returncode == 1
    assert "ta-01HXXXXXXXXXXXXXXXXXXXXXXX" in refused.stderr


@pytest.mark.slow
@pytest.mark.row("CLI", "modal container stop")
@pytest.mark.parametrize(("method", "says", "gives"), [("stay", "stays", "stayed"), ("linger", "lingers", "lingered")])
def test_a_stopped_container_tidies_up_and_its_input_begins_again_in_another(
    target: Target, observed: DeployedApp, method: str, says: str, gives: str
) -> None:
    with modal.Dict.ephemeral(client=target.client) as begun:
        call = getattr(observed.cls("Tidy")(), method).spawn(begun)
        before = said(target, "app", "logs", observed.name).count("has tidied up")
        until(lambda: says in said(target, "app", "logs", observed.name))
        task = task_of(target, observed, says)
        refused = target.cli("container", "stop", task)
        assert refused.returncode == 1, "without a terminal it asks for --yes"
        said(target, "container", "stop", task, "--yes")
        assert call.get(timeout=SOON) == gives
        until(lambda: said(target, "app", "logs", observed.name).count("has tidied up") > before)
    assert said(target, "app", "logs", observed.name).splitlines().count(says) == 2
    until(lambda: "already stopped" in target.cli("container", "stop", task, "--yes").stderr)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal container stop --graceful")
def test_a_container_that_is_stopped_gracefully_finishes_its_input(target: Target, observed: DeployedApp) -> None:
    call = observed.function("say").spawn("finished", 2)
    until(lambda: "says finished" in said(target, "app", "logs", observed.name))
    said(target, "container", "stop", "--graceful", "--yes", task_of(target, observed, "says finished"))
    assert call.get(timeout=SOON) == "finished"
    assert said(target, "app", "logs", observed.name).splitlines().count("says finished") == 1


# Functions


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal function info")
def test_a_functions_info_is_what_it_was_declared_with(target: Target, observed: DeployedApp) -> None:
    info = told(target, "function", "info", f"{observed.name}/say")
    wanted = {"name": "say", "cpu": 2.0, "memory_mib": 512, "timeout": 200, "max_containers": 3}
    assert {name: info[name] for name in wanted} == wanted
    page = told(target, "function", "info", f"{observed.name}/page")
    assert page["web_info"]["web_url"] == observed.url("page")
    assert page["web_info"]["method"] == "POST"
    greeter = told(target, "function", "info", f"{observed.name}/Greeter.*")
    assert greeter["method_names"] == ["greet"]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal function info")
def test_another_kind_of_thing_is_told_with_the_command_that_was_meant(target: Target, observed: DeployedApp) -> None:
    for wrong, told_so in (("Greeter", "modal.Cls"), ("Files", "is a Server"), ("sayy", f"{observed.name}/say")):
        refused = target.cli("function", "info", f"{observed.name}/{wrong}")
        assert refused.returncode != 0
        assert told_so in refused.stderr


@pytest.mark.slow
@pytest.mark.row("CLI", "modal function logs")
def test_the_logs_of_a_function_are_its_own_and_of_a_class_those_of_all_variants(
    target: Target, observed: DeployedApp
) -> None:
    assert "says one\n" in said(target, "function", "logs", f"{observed.name}/say")
    assert "hi, you" not in said(target, "function", "logs", f"{observed.name}/say")
    assert "hi, you\n" in said(target, "function", "logs", f"{observed.name}/Greeter.*", "--all-variants")
    assert "hi, you\n" not in said(target, "function", "logs", f"{observed.name}/Greeter.*")


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal function calls")
def test_the_calls_of_a_function_are_listed_with_their_status_and_times(target: Target, observed: DeployedApp) -> None:
    (failed,) = told(target, "function", "calls", f"{observed.name}/fail")
    assert failed["status"] == "failure"
    assert failed["execution_time_seconds"] >= 0
    assert failed["container_id"].startswith("ta-")
    calls = told(target, "function", "calls", f"{observed.name}/say")
    assert {call["status"] for call in calls} == {"success"}
    assert told(target, "function", "calls", f"{observed.name}/say", "--tail", "1") == calls[-1:]
    assert told(target, "function", "calls", f"{observed.name}/fail", "--since", "10m") == [failed]
    (greeted, *_) = told(target, "function", "calls", f"{observed.name}/Greeter.*", "--all-variants")
    assert greeted["service_method_name"] == "greet"


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal function stats")
def test_the_stats_of_a_function_count_its_inputs_and_containers(target: Target, observed: DeployedApp) -> None:
    stats = told(target, "function", "stats", f"{observed.name}/fail")
    assert (stats["input_success_count"], stats["input_failure_count"]) == (0, 1)
    assert stats["container_started_count"] == 1
    assert 0 < stats["container_percentile_stats"]["Startup time (s)"]["percentiles"]["p50"] < SOON
    assert "End-to-end latency (s)" in said(target, "function", "stats", f"{observed.name}/fail")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal function variants")
def test_the_variants_of_a_class_are_listed_with_their_parameters(target: Target, observed: DeployedApp) -> None:
    variants = told(target, "function", "variants", f"{observed.name}/Greeter.*")
    assert {"greeting": "hi"} in [variant["parameters"] for variant in variants]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal function autoscaler")
def test_the_autoscalers_settings_are_shown_and_changed(target: Target, observed: DeployedApp) -> None:
    name = f"{observed.name}/on_a_gpu"
    said(target, "function", "autoscaler", "update", name, "--max-containers", "2", "--scaledown-window", "30")
    settings = told(target, "function", "autoscaler", "settings", name)["current_settings"]
    assert (settings["max_containers"], settings["scaledown_window"]) == (2, 30)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal function metrics")
@pytest.mark.emulator_only("real Modal has time series")
def test_the_metrics_of_functions_and_servers_are_refused_by_name(target: Target, observed: DeployedApp) -> None:
    for kind, name in (("function", "say"), ("server", "Files")):
        refused = target.cli(kind, "metrics", f"{observed.name}/{name}")
        assert refused.returncode == 1
        assert "The emulator does not implement MetricsGetInfo" in refused.stderr


# Servers


@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal server info")
def test_a_servers_info_is_what_it_was_declared_with(target: Target, observed: DeployedApp) -> None:
    info = said(target, "server", "info", f"{observed.name}/Guarded")
    assert "Port: 8001" in info
    assert "Authentication: Enabled" in info
    assert str(observed.server("Guarded").get_url()) in info


@pytest.mark.slow
@pytest.mark.row("CLI", "modal server logs")
def test_the_logs_of_a_server_are_its_containers_lines(target: Target, observed: DeployedApp) -> None:
    url = observed.server("Files").get_url()
    assert url

    def served() -> bool:
        try:
            return bool(urllib.request.urlopen(url, timeout=SOON).read())
        except OSError:
            return False

    until(served)
    assert "the server listens\n" in said(target, "server", "logs", f"{observed.name}/Files")
    assert "says one" not in said(target, "server", "logs", f"{observed.name}/Files")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal server autoscaler")
def test_the_autoscaler_of_a_server_is_shown_and_changed(target: Target, observed: DeployedApp) -> None:
    name = f"{observed.name}/Guarded"
    said(target, "server", "autoscaler", "update", name, "--max-containers", "2")
    assert told(target, "server", "autoscaler", "settings", name)["current_settings"]["max_containers"] == 2


# curl


@pytest.mark.slow
@pytest.mark.row("CLI", "modal curl")
@pytest.mark.emulator_only("the addresses of real Modal are not on this machine")
def test_curl_asks_an_address_of_the_emulator_as_plain_curl_does(target: Target, observed: DeployedApp) -> None:
    asked = target.cli("curl", "-s", "-X", "POST", observed.url("page"))
    assert asked.stdout == '"page"'
    guarded = target.cli(
        "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", str(observed.server("Guarded").get_url())
    )
    assert guarded.stdout == "401"
    nobody = target.cli("curl", "-s", "http://127.0.0.1:1/")
    assert nobody.returncode == 7, "curl's own exit code"
