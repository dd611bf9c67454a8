"""Where web functions are: labels, suffixes, and the addresses that only an emulator has."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.parity.web_kit import get, until

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def label(target: Target) -> str:
    return f"mine-{target.session}"


@pytest.fixture
def app(target: Target, label: str) -> DeployedApp:
    return target.deploy("labels.py", env={"LABEL": label})


@pytest.mark.emulator_only("a port of its own, and one that is shared")
@pytest.mark.row("Web", "addresses")
def test_a_function_has_a_port_a_host_name_and_a_path(target: Target, app: DeployedApp, label: str) -> None:
    shared = target.emulator.core.ingress.url
    assert get(app.url("labelled") + "/a").text == " /a"
    assert get(shared + "/a", headers={"Host": f"{label}.modal.localhost"}).text == " /a"
    assert get(f"{shared}/{label}/a").text == f"/{label} /{label}/a"
    unknown = get(shared + "/a", headers={"Host": "unknown.modal.localhost"})
    assert (unknown.status_code, unknown.text) == (404, "modal-http: invalid function call\n")


@pytest.mark.emulator_only("real Modal takes only domains that were registered")
@pytest.mark.row("Web", "custom_domains")
def test_a_custom_domain_is_served_on_the_shared_port(target: Target, app: DeployedApp) -> None:
    assert app.name
    port = urlsplit(target.emulator.core.ingress.url).port
    assert get(f"http://127.0.0.1:{port}/a", headers={"Host": f"pages.example.com:{port}"}).text == " /a"


@pytest.mark.row("Web", "label")
def test_a_label_that_cannot_be_part_of_a_host_name_is_refused(target: Target) -> None:
    done = target.cli("deploy", "--name", target.unique("refused"), "labels.py", env={"LABEL": "not_a_label"})
    assert done.returncode != 0
    assert re.search("label", done.stderr + done.stdout, re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.row("Web", "label")
def test_the_last_app_that_asks_for_a_label_has_it_and_is_told_that_it_took_it(target: Target, label: str) -> None:
    env = {"LABEL": f"{label}-twice"}
    first = target.deploy("labels.py", name="labels-first", env=env)
    done = target.cli("deploy", "--name", target.unique("labels-second"), "labels.py", env=env)
    assert done.returncode == 0, done.stderr
    assert "label stolen" in done.stdout
    assert get(first.url("labelled") + "/a").status_code == 200


@pytest.mark.row("Web", "-dev labels")
def test_modal_serve_puts_dev_behind_the_label_and_leaves_the_deployed_one_alone(
    target: Target, app: DeployedApp, label: str
) -> None:
    with target.start("serve", "labels.py", env={"LABEL": label}) as serving:
        until(lambda: _is_at(target, f"{label}-dev", serving.output))
        assert get(app.url("labelled") + "/a").text == " /a"
        serving.interrupt()


def _is_at(target: Target, label: str, told: str) -> bool:
    """Whether the function is served under that label: by what is told where an emulator's ports say nothing of it."""
    if target.name == "modal":
        return f"{label}." in told
    shared = target.emulator.core.ingress.url
    return get(shared + "/a", headers={"Host": f"{label}.modal.localhost"}).text == " /a"
