"""What a function's code finds around it: variables, Secrets, its own source; and how it got there."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import modal
import pytest

if TYPE_CHECKING:
    from tests.parity.kit import DeployedApp, Target


@pytest.fixture(scope="module")
def secret(target: Target) -> str:
    name = target.unique("parity-secret")
    modal.Secret.objects.create(name, {"NAMED": "kept"}, client=target.client, allow_existing=True)
    return name


@pytest.fixture
def app(target: Target, secret: str) -> DeployedApp:
    return target.deploy("surroundings.py", env={"PARITY_SECRET": secret, "PARITY_LOCAL": "from my shell"})


@pytest.mark.row("Functions", "env")
def test_env_is_in_the_container_and_wins_over_secrets(app: DeployedApp) -> None:
    found = list(app.function("variable").map(["GIVEN", "BOTH", "LEFT_OUT"]))
    assert found == ["by env", "env", None]


@pytest.mark.row("Functions", "secrets")
def test_secrets_are_variables_from_wherever_they_come(app: DeployedApp) -> None:
    names = ["FROM_DICT", "FROM_DOTENV", "PARITY_LOCAL", "NAMED", "NOTHING"]
    assert list(app.function("variable").map(names)) == ["d", "in a file", "from my shell", "kept", None]


@pytest.mark.row("Functions", "secrets")
def test_a_secret_that_is_not_there_fails_the_deploy(target: Target) -> None:
    app = modal.App(target.unique("no-secret"))
    app.function(serialized=True, name="f", secrets=[modal.Secret.from_name("nobody-s-secret")])(lambda: None)
    with pytest.raises(modal.exception.NotFoundError, match="nobody-s-secret"):
        app.deploy(client=target.client)


@pytest.mark.row("Functions", "secrets")
def test_a_secret_without_a_key_that_is_required_is_refused(target: Target, secret: str) -> None:
    with pytest.raises(modal.exception.NotFoundError, match="OTHER"):
        modal.Secret.from_name(secret, required_keys=["NAMED", "OTHER"]).hydrate(target.client)


@pytest.mark.row("Functions", "secrets")
def test_a_local_variable_that_is_not_set_is_an_error_of_the_client_s() -> None:
    with pytest.raises(modal.exception.InvalidError, match="NOBODY_HAS_SET_THIS"):
        modal.Secret.from_local_environ(["NOBODY_HAS_SET_THIS"])


@pytest.mark.row("Functions", "Container variables")
def test_modal_s_own_variables_are_there_and_cannot_be_overridden(app: DeployedApp) -> None:
    found = app.function("variables").remote()
    assert found["MODAL_TASK_ID"].startswith("ta-")
    assert found["MODAL_IS_REMOTE"] == "1"
    assert found["MODAL_IMAGE_ID"].startswith("im-")
    assert found["MODAL_ENVIRONMENT"]
    assert found["MODAL_CLOUD_PROVIDER"]
    assert found["MODAL_REGION"] not in ("", "mine")
    assert not [name for name in found if name.startswith(("MODAL_TOKEN", "MODAL_CONFIG"))]


@pytest.mark.row("Functions", "Container variables")
@pytest.mark.emulator_only("on Modal AWS is AWS")
def test_aws_is_the_emulator_s(target: Target, app: DeployedApp) -> None:
    found = app.function("variables").remote()
    assert found["AWS_ENDPOINT_URL"] == target.emulator.environment["AWS_ENDPOINT_URL"]


@pytest.mark.row("Functions", "block_network")
def test_a_blocked_network_lets_nothing_out_and_inputs_in_however_large(app: DeployedApp) -> None:
    size = 3 << 20
    assert app.function("blocked").remote(bytes(size), "192.0.2.1", 80)[0] == size
    assert app.function("blocked").remote(b"", "192.0.2.1", 80)[1] != "connected"


@pytest.mark.row("Functions", "block_network")
@pytest.mark.emulator_only("it is this machine's ports that are tried")
def test_a_blocked_network_does_not_reach_what_others_reach(target: Target, app: DeployedApp) -> None:
    port = urlsplit(target.emulator.environment["AWS_ENDPOINT_URL"]).port
    assert app.function("blocked").remote(b"", "127.0.0.1", port)[1] == "ConnectionRefusedError"


@pytest.mark.row("Functions", "serialized")
def test_a_function_without_a_name_of_its_own_is_sent_as_a_pickle(app: DeployedApp) -> None:
    assert [app.function(name).remote(2) for name in ("adds_2", "adds_40")] == [4, 42]


@pytest.mark.row("Functions", "serialized")
def test_a_pickle_of_more_than_16_mib_is_refused(target: Target) -> None:
    app, much = modal.App(target.unique("too-much")), bytes(17 << 20)
    app.function(serialized=True, name="f")(lambda: len(much))
    with pytest.raises(modal.exception.InvalidError, match="larger than the maximum limit of 16 MiB"):
        app.deploy(client=target.client)


@pytest.mark.row("Functions", "include_source")
def test_the_source_is_in_the_container_unless_it_is_not_to_be(app: DeployedApp) -> None:
    assert app.function("with_source").remote() == "/root/surroundings.py"
    assert app.function("without_source").remote() is False


@pytest.mark.row("Functions", "name")
def test_a_function_has_the_name_that_it_is_given(app: DeployedApp) -> None:
    assert app.function("without_source").remote() is False
    with pytest.raises(modal.exception.NotFoundError, match="adds'"):
        app.function("adds")


@pytest.mark.row("Functions", "is_generator")
def test_a_generator_may_be_declared(app: DeployedApp) -> None:
    assert list(app.function("declared").remote_gen(3)) == [0, 1, 2]


@pytest.mark.row("Functions", "_experimental_restrict_output")
def test_restricted_output_is_plain_data_and_nothing_else(app: DeployedApp) -> None:
    restricted = app.function("restricted")
    assert restricted.remote("plain") == [1, "two", None]
    with pytest.raises(modal.exception.Error):
        restricted.remote("object")
