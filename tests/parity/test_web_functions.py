"""Web functions of every kind, and what they answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest

from tests.parity.web_kit import get, post, proxy_token

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("web.py")


@pytest.mark.row("Web", "fastapi_endpoint")
def test_a_fastapi_endpoint_validates_answers_and_allows_other_origins(app: DeployedApp) -> None:
    url = app.url("square")
    response = get(url, params={"x": 7}, headers={"Origin": "https://elsewhere.example"})
    assert (response.status_code, response.json()) == (200, {"square": 49})
    assert response.headers["access-control-allow-origin"] in ("*", "https://elsewhere.example")
    assert get(url, params={"x": "seven"}).status_code == 422
    assert post(url, params={"x": 7}).status_code == 405


@pytest.mark.row("Web", "fastapi_endpoint docs")
def test_an_endpoint_has_documentation_only_where_it_was_asked_for(app: DeployedApp) -> None:
    assert get(app.url("square") + "/docs").status_code == 200
    assert get(app.url("square") + "/openapi.json").json()["paths"]["/"]["get"]["summary"]
    assert get(app.url("Pages.greet") + "/docs").status_code == 404


@pytest.mark.row("Web", "asgi_app")
def test_lifespan_and_state_are_of_the_container_and_shared_by_its_requests(app: DeployedApp) -> None:
    first, second = (get(app.url("site") + "/state").json() for _ in range(2))
    assert first["begun"]
    assert second["shared"] == first["shared"] + 1


@pytest.mark.row("Web", "wsgi_app")
def test_a_wsgi_application_gets_the_request_and_its_status_and_headers_go_back(app: DeployedApp) -> None:
    response = post(app.url("plain") + "/a%20b?c=d", content=b"body")
    assert (response.status_code, response.text) == (202, "/a b?c=d body")
    assert response.headers["x-method"] == "POST"


@pytest.mark.row("Web", "web_server")
def test_a_web_server_is_asked_by_way_of_its_port(app: DeployedApp) -> None:
    url = app.url("served")
    response = get(url + "/some/path?q=1")
    assert response.text.split(" ", 1)[1] == "/some/path?q=1"
    assert response.headers["x-forwarded"]
    assert post(url, content=bytes(300_000)).text == "300000"
    assert post(url, content=iter([b"a", b"bc"])).text == "3"


@pytest.mark.row("Web", "web methods of a class")
def test_each_web_method_of_a_class_has_a_url_and_they_share_the_instance(app: DeployedApp) -> None:
    assert get(app.url("Pages.greet"), params={"name": "you"}).json() == "hello you"
    assert get(app.url("Pages.pages")).json() == "hello pages"


@pytest.mark.row("Web", "requires_proxy_auth")
def test_a_protected_endpoint_takes_a_proxy_token_and_nothing_else(target: Target, app: DeployedApp) -> None:
    url = app.url("private")
    missing, wrong = post(url, json={}), post(url, json={}, headers={"Modal-Key": "wk-no", "Modal-Secret": "ws-no"})
    assert (missing.status_code, missing.text) == (401, "modal-http: missing credentials for proxy authorization\n")
    assert (wrong.status_code, wrong.text) == (401, "modal-http: invalid credentials for proxy authorization\n")
    key, secret = proxy_token(target)
    for headers in ({"Modal-Key": key, "Modal-Secret": secret}, {"Authorization": f"Bearer {key}.{secret}"}):
        response = post(url, json={"who": "me"}, headers=headers)
        assert (response.status_code, response.json()) == (200, {"who": "ME"})


@pytest.mark.since("1.6")
@pytest.mark.row("Web", "get_web_url")
def test_a_web_function_has_its_url_in_a_handle_and_can_only_be_called_there(app: DeployedApp) -> None:
    function = app.function("square")
    assert function.get_web_url() == app.url("square")
    info = function.info().web_info
    assert info is not None and info.web_url == app.url("square")
    with pytest.raises(modal.exception.InvalidError, match="Invoke this function via its web url"):
        function.remote(3)
