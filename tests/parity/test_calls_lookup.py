"""Functions and classes of other apps, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest
from modal.exception import InvalidError, NotFoundError

if TYPE_CHECKING:
    from tests.parity.kit import Target


@pytest.mark.row("Calls", "Function.from_name")
def test_an_app_that_is_not_there_is_not_found_by_its_name(target: Target) -> None:
    with pytest.raises(NotFoundError, match="Lookup failed for Function 'f' from the 'no-such-app' app") as told:
        modal.Function.from_name("no-such-app", "f", client=target.client).remote()
    assert "no-such-app" in str(told.value).partition(": ")[2]  # also in what the server says


@pytest.mark.row("Calls", "Function.from_name")
def test_a_function_that_its_app_does_not_have_is_not_found_by_its_name(target: Target) -> None:
    app = target.deploy("calls.py")
    with pytest.raises(NotFoundError, match=f"Lookup failed for Function 'subtract' from the '{app.name}' app"):
        modal.Function.from_name(app.name, "subtract", client=target.client).remote()


@pytest.mark.since("1.6")
@pytest.mark.row("Calls", "Function.from_name")
def test_a_class_is_no_function(target: Target) -> None:
    app = target.deploy("calls.py")
    with pytest.raises(NotFoundError, match=r"is a modal.Cls. Use `modal.Cls.from_name` instead"):
        modal.Function.from_name(app.name, "Greeter", client=target.client).remote()


@pytest.mark.row("Calls", "Function.from_name")
def test_a_method_is_not_looked_up_as_a_function(target: Target) -> None:
    app = target.deploy("calls.py")
    with pytest.raises(InvalidError, match="look up a class method"):
        modal.Function.from_name(app.name, "Greeter.greet", client=target.client)


@pytest.mark.row("Calls", "Function.from_name")
def test_an_environment_that_has_no_such_app_is_named(target: Target) -> None:
    app = target.deploy("calls.py")
    with pytest.raises(NotFoundError, match=r"'nowhere'"):
        modal.Function.from_name(app.name, "add", environment_name="nowhere", client=target.client).remote(1)


@pytest.mark.row("Calls", "Cls.from_name")
def test_a_class_is_found_by_name_or_said_to_be_missing(target: Target) -> None:
    app = target.deploy("calls.py")
    greeter = modal.Cls.from_name(app.name, "Greeter", client=target.client)
    assert greeter(name="anna").greet.remote() == "hello anna"
    for missing, owner in (("Nobody", app.name), ("Greeter", "no-such-app")):
        with pytest.raises(NotFoundError, match=f"Lookup failed for Cls '{missing}' from the '{owner}' app"):
            modal.Cls.from_name(owner, missing, client=target.client).hydrate()


@pytest.mark.since("1.6")
@pytest.mark.row("Calls", "Function.from_id")
def test_a_function_is_found_by_its_id(target: Target) -> None:
    add = target.deploy("calls.py").function("add")
    found = modal.Function.from_id(add.object_id, client=target.client)
    assert found.remote(1, 2) == 3
    with pytest.raises(NotFoundError, match="Lookup failed for Function 'fu-0000"):
        modal.Function.from_id("fu-" + "0" * 22, client=target.client).remote()


@pytest.mark.row("Calls", "from_name(…, version=…)")
def test_an_earlier_version_can_still_be_called(target: Target) -> None:
    for answer in ("one", "two"):
        app = target.deploy("versions.py", env={"ANSWER": answer}, again=True)

    def found(version: int | None) -> modal.Function[..., str, str]:
        return modal.Function.from_name(app.name, "answer", version=version, client=target.client)

    assert [found(version).remote() for version in (1, 2, None)] == ["one", "two", "two"]
    oracle = modal.Cls.from_name(app.name, "Oracle", version=1, client=target.client)
    assert oracle(word="so").answer.remote() == "so one"
    with pytest.raises(NotFoundError, match="version 9"):
        found(9).remote()
