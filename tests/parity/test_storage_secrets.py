"""`modal.Secret`, and the Environments that all of it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import Target


@pytest.fixture
def secret(target: Target) -> Iterator[modal.Secret]:
    name = f"secret-{target.session}"
    modal.Secret.objects.create(name, {"A": "1", "B": "2"}, client=target.client)
    yield modal.Secret.from_name(name, client=target.client).hydrate()
    modal.Secret.objects.delete(name, client=target.client, allow_missing=True)


@pytest.fixture
def elsewhere(target: Target) -> Iterator[str]:
    """The name of an Environment."""
    name = f"elsewhere-{target.session}"
    modal.environments.create_environment(name, client=target.client)
    yield name
    if name in [found.name for found in modal.environments.list_environments(client=target.client)]:
        modal.environments.delete_environment(name, client=target.client)


@pytest.mark.row("Storage", "Secret.from_name")
def test_a_secret_has_to_be_there_and_to_have_what_is_required(target: Target, secret: modal.Secret) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="nobody-s"):
        modal.Secret.from_name("nobody-s", client=target.client).hydrate()
    modal.Secret.from_name(secret.name, required_keys=["A"], client=target.client).hydrate()
    with pytest.raises(modal.exception.NotFoundError, match="C"):
        modal.Secret.from_name(secret.name, required_keys=["A", "C"], client=target.client).hydrate()


@pytest.mark.row("Storage", "Secret.objects, info")
def test_secrets_are_created_listed_and_deleted(target: Target, secret: modal.Secret) -> None:
    objects, client = modal.Secret.objects, target.client
    with pytest.raises(modal.exception.AlreadyExistsError, match=secret.name):
        objects.create(secret.name, {"C": "3"}, client=client)
    objects.create(secret.name, {"C": "3"}, client=client, allow_existing=True)
    with pytest.raises(modal.exception.NotFoundError):  # what was there has been kept
        modal.Secret.from_name(secret.name, required_keys=["C"], client=client).hydrate()
    assert secret.name in [found.name for found in objects.list(client=client)]
    objects.delete(secret.name, client=client)
    with pytest.raises(modal.exception.NotFoundError):
        objects.delete(secret.name, client=client)


@pytest.mark.row("Storage", "Secret.objects, info")
def test_a_secret_says_when_it_was_made(secret: modal.Secret) -> None:
    info = secret.info()
    assert (info.name, info.created_at.tzinfo is not None, bool(info.created_by)) == (secret.name, True, True)


@pytest.mark.row("Storage", "Secret.update")
def test_an_update_adds_keys_and_replaces_values_and_leaves_the_others(target: Target, secret: modal.Secret) -> None:
    app = modal.App(target.unique("updated"))
    app.function(name="get", serialized=True, secrets=[secret])(lambda: [__import__("os").getenv(k) for k in "ABC"])
    secret.update({"B": "two", "C": "3"})
    app.deploy(client=target.client)
    get = modal.Function.from_name(str(app.name), "get", client=target.client)
    assert get.remote() == ["1", "two", "3"]


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("Storage", "Secret.objects, info")
def test_a_secret_says_when_a_container_had_it_last(target: Target, secret: modal.Secret) -> None:
    assert secret.info().last_used is None
    app = modal.App(target.unique("used"))
    app.function(name="none", serialized=True, secrets=[secret])(lambda: None)
    app.deploy(client=target.client)
    modal.Function.from_name(str(app.name), "none", client=target.client).remote()
    assert secret.info(refresh=True).last_used is not None


@pytest.mark.row("Storage", "Secret.from_dict, from_dotenv, from_local_environ")
def test_secrets_of_an_app_are_in_its_containers_and_in_no_list(target: Target) -> None:
    app = target.deploy("storing.py")
    assert app.function("variables").remote("OF_THE_APP", "OTHER") == ["yes", None]
    assert None not in [found.name for found in modal.Secret.objects.list(client=target.client)]


@pytest.mark.row("Storage", "Secret.from_dict, from_dotenv, from_local_environ")
@pytest.mark.emulator_only("it looks into the emulator")
def test_secrets_of_an_app_go_with_it(target: Target) -> None:
    app = modal.App(f"going-{target.session}")
    app.function(name="none", serialized=True, secrets=[modal.Secret.from_dict({"A": "1"})])(lambda: None)
    with app.run(client=target.client):
        secrets = target.emulator.core.state.secrets
        (of_it,) = [secret for secret in secrets.values() if secret.app_id == app.app_id]
    target.emulator.wait(lambda: of_it.secret_id not in secrets, within=30)


@pytest.mark.row("Storage", "Secret: limits")
@pytest.mark.parametrize("key", ["", "1A", "A-B", "A B", "A" * 16_385])
def test_a_key_is_a_variable_s_name(target: Target, key: str) -> None:
    with pytest.raises(modal.exception.InvalidError, match="key"):
        modal.Secret.objects.create(f"refused-{target.session}", {key: "value"}, client=target.client)


@pytest.mark.row("Storage", "Secret: limits")
def test_a_value_has_up_to_32_768_characters(target: Target, secret: modal.Secret) -> None:
    secret.update({"A": "x" * 32_768})
    with pytest.raises(modal.exception.InvalidError, match="32,768"):
        secret.update({"A": "x" * 32_769})


@pytest.mark.row("Storage", "Environments")
def test_each_environment_has_its_own_names(target: Target, elsewhere: str) -> None:
    client, name = target.client, f"same-{target.session}"
    here, there = (
        modal.Dict.from_name(name, environment_name=environment, create_if_missing=True, client=client).hydrate()
        for environment in (None, elsewhere)
    )
    here["where"], there["where"] = "here", "there"
    assert (here["where"], there["where"]) == ("here", "there")
    modal.Dict.objects.delete(name, client=client)
    assert [found.name for found in modal.Dict.objects.list(environment_name=elsewhere, client=client)] == [name]
    with pytest.raises(modal.exception.NotFoundError, match="'nowhere'"):
        modal.Dict.from_name(name, environment_name="nowhere", create_if_missing=True, client=client).hydrate()


@pytest.mark.slow
@pytest.mark.row("Storage", "Environments")
def test_one_app_in_two_environments_has_two_addresses(target: Target, elsewhere: str) -> None:
    app = modal.App(target.unique("twice"))
    app.function(name="page", serialized=True)(modal.fastapi_endpoint()(lambda: "a page"))
    for environment in (None, elsewhere):
        app.deploy(client=target.client, environment_name=environment)
    urls = {
        modal.Function.from_name(str(app.name), "page", environment_name=name, client=target.client).get_web_url()
        for name in (None, elsewhere)
    }
    assert len(urls) == 2


@pytest.mark.row("Storage", "Environments")
def test_with_an_environment_goes_everything_in_it(target: Target, elsewhere: str) -> None:
    client = target.client
    queue = modal.Queue.from_name("q", environment_name=elsewhere, create_if_missing=True, client=client).hydrate()
    modal.Secret.objects.create("s", {"A": "1"}, environment_name=elsewhere, client=client)
    app = modal.App(f"gone-{target.session}")
    app.function(name="f", serialized=True)(lambda: None)
    app.deploy(client=client, environment_name=elsewhere)
    modal.environments.delete_environment(elsewhere, client=client)
    with pytest.raises(modal.exception.NotFoundError):
        queue.len()
    modal.environments.create_environment(elsewhere, client=client)
    assert modal.Secret.objects.list(environment_name=elsewhere, client=client) == []
    with pytest.raises(modal.exception.NotFoundError):
        modal.Function.from_name(str(app.name), "f", environment_name=elsewhere, client=client).hydrate()
