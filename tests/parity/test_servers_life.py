"""Containers of Servers: started, grown, drained, replaced; and what is recorded of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import modal
import pytest

from emulator.clock import RealClock
from emulator.emulator import Emulator
from tests.parity.kit import for_emulator
from tests.parity.web_kit import exchange, get, until, until_up

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target

pytestmark = pytest.mark.since("1.6")  # whose `app.server` takes what it documents


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("servers.py")


@pytest.fixture
def fleet(target: Target) -> DeployedApp:
    return target.deploy("servers_fleet.py")


@pytest.fixture
def growing(fleet: DeployedApp) -> modal.Server:
    return fleet.server("Growing")


@pytest.mark.slow
@pytest.mark.row("Servers", "target_concurrency")
def test_a_server_grows_while_it_has_more_requests_than_its_target_and_shrinks_again(growing: modal.Server) -> None:
    url = str(growing.get_url())
    until_up(url)
    with ThreadPoolExecutor(2) as pool:
        held = [pool.submit(get, url + "/slow/2") for _ in range(2)]
        until(lambda: len(growing._experimental_list_containers()) == 2)
        assert [one.result().status_code for one in held] == [200, 200]
    until(lambda: not growing._experimental_list_containers())
    assert get(url).status_code == 503


@pytest.mark.slow
@pytest.mark.row("Servers", "exit_grace_period")
def test_a_request_that_is_being_served_finishes_before_its_container_leaves(
    target: Target, fleet: DeployedApp, growing: modal.Server
) -> None:
    url = str(growing.get_url())
    container = until_up(url).text
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(get, url + "/slow/3")
        until(lambda: get(url + "/slow/0").text)
        done = target.cli("container", "stop", "--yes", container)
        assert done.returncode == 0, done.stderr + done.stdout
        until(lambda: container not in {one.container_id for one in growing._experimental_list_containers()})
        assert (held.result().status_code, held.result().text) == (200, container)
    until(lambda: f"exit handler of {container}" in target.cli("app", "logs", fleet.name).stdout)


@pytest.mark.row("Servers", "startup_timeout")
def test_a_container_whose_port_stays_closed_is_ended_and_never_asked(app: DeployedApp) -> None:
    never = app.server("Never")
    url = str(never.get_url())
    function = never._get_service_function()
    assert get(url).status_code == 503
    until(lambda: function.get_current_stats().num_total_runners == 1)
    assert get(url).status_code == 503
    until(lambda: function.get_current_stats().num_total_runners == 0)
    assert never._experimental_list_containers() == []


@pytest.mark.row("Servers", "Server.from_name")
def test_a_server_is_looked_up_by_its_name_and_by_its_id(target: Target, app: DeployedApp) -> None:
    named = modal.Server.from_name(app.name, "private", client=target.client)
    assert named.get_url() == modal.Server.from_id(named.object_id, client=target.client).get_url()
    with pytest.raises(modal.exception.NotFoundError):
        modal.Server.from_name(app.name, "Private", client=target.client).hydrate()


@pytest.mark.row("Servers", "routing_region")
def test_regions_ports_and_limits_are_recorded_and_shown(app: DeployedApp) -> None:
    info = app.server("Open").info()
    assert (info.routing_region, info.port, info.unauthenticated, info.sessioned) == ("us-west", 8000, True, False)
    private = app.server("private").info()
    assert (private.port, private.cpu, private.memory_mib, private.unauthenticated) == (9123, 0.25, 256, False)
    assert (private.startup_timeout, private.exit_grace_period, private.h2_enabled) == (30, 5, False)
    assert app.server("Rooms").info().sessioned


@pytest.mark.row("Servers", "what a Server may not be")
def test_a_server_has_no_parameters_no_methods_and_is_not_called(target: Target, app: DeployedApp) -> None:
    function = modal.Function.from_name(app.name, "Open", client=target.client)
    with pytest.raises(modal.exception.Error):
        function.remote()


@pytest.mark.emulator_only("on real Modal it is spoken")
@pytest.mark.row("Servers", "h2_enabled")
def test_http_2_is_said_to_be_missing_when_it_is_asked_for(target: Target, app: DeployedApp) -> None:
    url = str(app.server("Open").get_url())
    assert exchange(url, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    done = target.cli("deploy", "--name", target.unique("servers-h2"), "servers_h2.py")
    assert done.returncode == 0
    assert "HTTP/2 is not spoken" in " ".join(done.stdout.split())


@pytest.mark.slow
@pytest.mark.row("Servers", "redeployment")
def test_the_old_container_answers_until_the_new_one_does(target: Target, app: DeployedApp) -> None:
    server = app.server("Open")
    url = str(server.get_url())
    before = until_up(url).text
    with ThreadPoolExecutor(1) as pool:
        deploying = pool.submit(target.deploy, "servers.py", env={"AGAIN": "1"}, again=True)
        statuses = set()
        while get(url).text == before or not deploying.done():
            statuses.add(get(url).status_code)
    assert statuses == {200}


@pytest.mark.slow
@pytest.mark.emulator_only("its clock hurries")
@pytest.mark.row("Servers", "health checks")
def test_a_container_that_no_longer_listens_is_replaced() -> None:
    class Hurried(RealClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(0.05 if seconds == 5.0 else seconds)

    with Emulator(clock=Hurried()) as emulator:
        target = for_emulator(emulator)
        url = str(target.deploy("servers.py").server("Open").get_url())
        before = until_up(url).text
        get(url + "/stop-listening")
        until(lambda: get(url).text not in (before, "") and get(url).status_code == 200)
        assert get(url).text != before
        target.client.close()
