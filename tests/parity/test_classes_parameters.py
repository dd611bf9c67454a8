"""Classes: their parameters and the pools that these make, their methods, what they inherit, how they are found."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING

import modal
import pytest
from modal.exception import InvalidError, NotFoundError

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture
def app(target: Target) -> DeployedApp:
    return target.deploy("classes.py")


@pytest.mark.row("Classes", "modal.parameter")
def test_parameters_of_every_type_arrive_and_those_left_out_have_their_defaults(app: DeployedApp) -> None:
    parameters = app.cls("Parameters")
    assert parameters(text="a").told.remote()["values"] == ("a", 7, b"\x00\xff", False, "loaded a")
    given = parameters(text="ä\n", number=-(2**40), data=b"", flag=True)
    assert given.told.remote()["values"] == ("ä\n", -(2**40), b"", True, "loaded ä\n")


@pytest.mark.row("Classes", "modal.parameter")
def test_parameters_that_are_missing_unknown_or_of_the_wrong_type_are_refused_before_anything_runs(
    app: DeployedApp,
) -> None:
    parameters = app.cls("Parameters")
    for wrong, told in (
        ({}, "text"),
        ({"text": "a", "other": 1}, "other"),
        ({"text": 1}, "Expected str, got int"),
        ({"text": "a", "number": "7"}, "Expected int, got str"),
    ):
        with pytest.raises((InvalidError, TypeError, ValueError), match=told):
            parameters(**wrong).told.remote()
    with pytest.raises(InvalidError, match="keyword arguments"):
        parameters("a").told.remote()


@pytest.mark.row("Classes", "a pool for each set of parameters")
def test_instances_with_equal_parameters_share_a_container_and_others_have_their_own(app: DeployedApp) -> None:
    parameters = app.cls("Parameters")
    first = parameters(text="pool", number=1).told.remote()
    again = parameters(text="pool", number=1).told.remote()
    other = parameters(text="pool", number=2).told.remote()
    assert (again["task"], again["calls"]) == (first["task"], first["calls"] + 1)
    assert other["task"] != first["task"]
    assert other["calls"] == 1


@pytest.mark.row("Classes", "a pool for each set of parameters")
def test_a_default_that_is_given_is_the_same_as_one_that_is_left_out(app: DeployedApp) -> None:
    parameters = app.cls("Parameters")
    left_out = parameters(text="default").told.remote()
    given = parameters(text="default", number=7).told.remote()
    assert given["task"] == left_out["task"]


@pytest.mark.row("Classes", "modal.parameter")
def test_more_than_16_kib_of_parameters_are_refused(app: DeployedApp) -> None:
    with pytest.raises(InvalidError):
        app.cls("Parameters")(text="x" * (16 * 1024 + 1)).told.remote()


@pytest.mark.row("Classes", "parameters of a web method")
def test_the_query_of_a_web_request_has_the_parameters_of_the_class(target: Target, app: DeployedApp) -> None:
    found = modal.Cls.from_name(app.name, "Page", client=target.client)
    url = found(name="").greet.get_web_url()
    assert url

    def ask(**query: str) -> dict[str, str]:
        with urllib.request.urlopen(f"{url}/?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            told: dict[str, str] = json.load(answer)
            return told

    first = ask(name="you & me", times="2", mark="!")
    again = ask(name="you & me", times="2")
    other = ask(name="you & me", loud="true")
    for wrong in ({"times": "2"}, {"name": "you", "times": "many"}):
        with pytest.raises(urllib.error.HTTPError):
            ask(**wrong)
    assert (first["text"], again["text"]) == ("hello you & mehello you & me!", "hello you & mehello you & me.")
    assert other["text"] == "HELLO YOU & ME."
    assert first["task"] == again["task"] == found(name="you & me", times=2).task.remote() != other["task"]


@pytest.mark.row("Classes", "inheritance")
def test_a_class_inherits_parameters_methods_and_hooks_and_may_override_them(app: DeployedApp) -> None:
    heir = app.cls("Heir")(greeting="hi", times=3)
    assert heir.greet.remote("you") == "hi, you"
    assert heir.overridden.remote() == "heir"
    steps, times = heir.told.remote()
    assert sorted(steps) == ["base enter", "heir enter"]
    assert times == 3


@pytest.mark.row("Classes", "methods")
def test_methods_are_plain_async_and_generators_and_reach_one_another(app: DeployedApp) -> None:
    kinds = app.cls("Kinds")()
    assert kinds.awaited.remote(1) == 2
    assert list(kinds.items.remote_gen(3)) == [0, 1, 2]
    assert list(kinds.aitems.remote_gen(3)) == [0, 10, 20]
    assert kinds.calls_another.remote(4) == 10
    assert kinds.uses_helper.remote() == "a plain method"
    assert list(kinds.awaited.map(range(4))) == [1, 2, 3, 4]
    assert kinds.awaited.spawn(9).get(timeout=20) == 10


@pytest.mark.row("Classes", "methods")
def test_what_is_not_a_method_of_a_deployed_class_is_told_by_name(app: DeployedApp) -> None:
    with pytest.raises(NotFoundError, match="helper"):
        app.cls("Kinds")().helper.remote()


@pytest.mark.row("Classes", "Cls.from_name")
def test_a_deployed_class_is_found_by_the_names_of_its_app_and_its_own(target: Target, app: DeployedApp) -> None:
    found = modal.Cls.from_name(app.name, "Kinds", client=target.client)
    assert found().awaited.remote(1) == 2


@pytest.mark.row("Classes", "Cls.from_name")
def test_a_class_that_is_not_there_is_told_by_name(target: Target, app: DeployedApp) -> None:
    with pytest.raises(NotFoundError, match="'Nothing' from the"):
        modal.Cls.from_name(app.name, "Nothing", client=target.client).hydrate()
    with pytest.raises(NotFoundError, match="no-such-app"):
        modal.Cls.from_name("no-such-app", "Kinds", client=target.client).hydrate()
