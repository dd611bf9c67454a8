"""What goes wrong in a web function, as its caller sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2
import pytest

from tests.parity.web_kit import get, until

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("web.py")


@pytest.mark.row("Web", "errors in user code")
def test_an_application_that_raises_is_a_500(app: DeployedApp) -> None:
    response = get(app.url("site") + "/fails")
    assert response.status_code == 500
    assert get(app.url("site") + "/state").status_code == 200


@pytest.mark.row("Web", "errors in the middle of a response")
def test_an_answer_that_breaks_off_can_be_told_from_a_whole_one(app: DeployedApp) -> None:
    got = b""
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        httpx2.stream("GET", app.url("site") + "/breaks-off", timeout=30) as response,
    ):
        assert response.status_code == 200
        for piece in response.iter_raw():
            got += piece
    assert got == b"so far"


@pytest.mark.slow
@pytest.mark.row("Web", "timeout of a web function")
def test_a_request_that_takes_longer_than_the_functions_timeout_is_a_500_in_modals_words(app: DeployedApp) -> None:
    response = get(app.url("too_slow"))
    assert (response.status_code, response.text) == (500, "modal-http: internal error: function execution timed out\n")


@pytest.mark.slow  # eight containers in turn, with growing pauses
@pytest.mark.timeout(300)
@pytest.mark.row("Web", "a container that dies")
def test_a_request_that_kills_its_containers_is_a_500_in_modals_words(app: DeployedApp) -> None:
    response = httpx2.get(app.url("kills_itself"), timeout=280)
    told = "modal-http: internal error: function was terminated by signal\n"
    assert (response.status_code, response.text) == (500, told)


@pytest.mark.slow
@pytest.mark.row("Web", "web_server startup_timeout")
def test_a_web_server_that_does_not_come_up_is_a_500_with_the_runtimes_reason(app: DeployedApp) -> None:
    response = get(app.url("never_up"))
    assert response.status_code == 500
    assert response.text.startswith("modal-http: internal error: status ")
    assert "Waited too long for port 8124 to start accepting connections" in response.text


@pytest.mark.row("Web", "web_server that ends")
def test_a_web_server_whose_process_has_ended_is_replaced_with_its_container(app: DeployedApp) -> None:
    url = app.url("served")
    first = get(url + "/who").text.split()[0]
    get(url + "/die")

    def another() -> bool:
        response = get(url + "/who")
        return response.status_code == 200 and response.text.split()[0] != first

    until(another)


@pytest.mark.row("Web", "disconnect")
def test_an_application_is_told_at_once_that_its_client_has_left(app: DeployedApp) -> None:
    url = app.url("site")
    with httpx2.stream("GET", url + "/ticks/leaver", timeout=30) as response:
        assert next(response.iter_raw()) == b"tick "
    until(lambda: "leaver" in get(url + "/left").json(), seconds=30)
