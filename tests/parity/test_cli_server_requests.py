"""`modal server requests | stats`: what a Server's containers have been asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.parity.web_kit import get, until, until_up

if TYPE_CHECKING:
    from tests.parity.kit import Target

pytestmark = [pytest.mark.slow, pytest.mark.since("1.6")]


@pytest.fixture(scope="module")
def server(target: Target) -> str:
    """The name of a Server that has answered `/asked/<n>` three times, and `/exact` with 209."""
    app = target.deploy("servers.py")
    url = str(app.server("Open").get_url())
    until_up(url)
    assert [get(f"{url}/asked/{number}?hidden=1").status_code for number in range(3)] == [200] * 3
    assert get(url + "/exact").status_code == 209
    name = f"{app.name}/Open"
    until(lambda: "/exact" in [request["route"] for request in told(target, "requests", name)])
    return name


def told(target: Target, command: str, *words: str) -> Any:
    done = target.cli("server", command, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.row("CLI", "modal server requests")
def test_the_latest_requests_come_first(target: Target, server: str) -> None:
    requests = told(target, "requests", server, "-n", "4")
    assert [(r["route"], r["status"]) for r in requests] == [
        ("/exact", 209),
        ("/asked/2", 200),
        ("/asked/1", 200),
        ("/asked/0", 200),
    ]
    assert all(r["container_id"].startswith("ta-") and 0 <= r["duration_seconds"] < 20 for r in requests)


@pytest.mark.row("CLI", "modal server requests")
def test_requests_of_a_time_range_come_in_their_order(target: Target, server: str) -> None:
    routes: list[str] = []
    while len(routes) < 4:  # until the test's time is up: the client's "now" is the last whole second
        routes = [request["route"] for request in told(target, "requests", server, "--since", "1h")]
    assert routes[-4:] == ["/asked/0", "/asked/1", "/asked/2", "/exact"]
    assert told(target, "requests", server, "--since", "3h", "--until", "2h") == []


@pytest.mark.row("CLI", "modal server stats")
def test_requests_are_counted_by_their_status(target: Target, server: str) -> None:
    stats = told(target, "stats", server)
    assert stats["request_count"] >= 4
    assert stats["request_count_by_status_code"]["2xx"] >= 4
    assert stats["container_total_count"] >= 1
    requests = told(target, "requests", server, "-n", "1")
    of_one = told(target, "stats", server, "--container-id", requests[0]["container_id"])
    assert 4 <= of_one["request_count"] <= stats["request_count"]
    assert told(target, "stats", server, "--since", "3h", "--until", "2h")["request_count"] == 0


@pytest.mark.row("CLI", "modal app stats")
def test_requests_to_servers_are_counted_with_their_app(target: Target, server: str) -> None:
    done = target.cli("app", "stats", server.partition("/")[0], "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["servers"]
    assert counts["by_name"]["Open"]["counts"]["requests"]["ok"] >= 4, counts
