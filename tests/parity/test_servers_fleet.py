"""Servers of several containers: which of them answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.parity.web_kit import get, until, until_up

if TYPE_CHECKING:
    import modal
    from modal.types import ServerContainerInfo

    from tests.parity.kit import DeployedApp, Target

pytestmark = pytest.mark.slow


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("servers_fleet.py")


@pytest.mark.row("Servers", "Modal-Session-ID")
def test_requests_that_share_a_session_id_reach_one_container(app: DeployedApp) -> None:
    url = str(app.server("Fleet").get_url())
    until_up(url)
    until(lambda: len(app.server("Fleet")._experimental_list_containers()) == 3)
    for header in ("Modal-Session-ID", "Modal-Routing-Affinity-Key"):
        chosen = {name: {get(url, headers={header: name}).text for _ in range(2)} for name in "abcdef"}
        assert all(len(containers) == 1 for containers in chosen.values())
        assert len(set.union(*chosen.values())) > 1


@pytest.mark.row("Servers", "several containers on one port")
def test_each_container_has_the_port_to_itself(app: DeployedApp) -> None:
    url = str(app.server("Fleet").get_url())
    until_up(url)
    containers = until(
        lambda: (found := app.server("Fleet")._experimental_list_containers()) and len(found) == 3 and found
    )
    assert {container.port for container in containers} == {8000}
    with ThreadPoolExecutor(12) as pool:
        answers = {one.text for one in pool.map(lambda _: get(url + "/slow/0.2"), range(12))}
    assert answers == {container.container_id for container in containers}


@pytest.mark.row("Servers", "Modal-Session-ID")
def test_a_container_that_is_added_takes_its_share_of_the_sessions_and_moves_no_other(app: DeployedApp) -> None:
    server = app.server("Fleet")
    url = str(server.get_url())
    until_up(url)
    before = {one.container_id for one in until(lambda: listed(server, 3))}
    names = [f"session-{number}" for number in range(40)]
    chosen = {name: get(url, headers={"Modal-Session-ID": name}).text for name in names}
    server.autoscaler.update(min_containers=4)
    try:
        (added,) = {one.container_id for one in until(lambda: listed(server, 4))} - before
        now = {name: get(url, headers={"Modal-Session-ID": name}).text for name in names}
        moved = {name for name in names if now[name] != chosen[name]}
        assert {now[name] for name in moved} == {added}
        assert 0 < len(moved) < 25
    finally:
        server.autoscaler.update(min_containers=3)


def listed(server: modal.Server, count: int) -> list[ServerContainerInfo] | None:
    """The containers that take requests, once there are so many."""
    found = list(server._experimental_list_containers())
    return found if len(found) == count else None
