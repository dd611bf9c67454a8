"""`modal environment`, `secret`, `workspace` and `token info`: what a workspace has beside its apps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import modal
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.parity.kit import Target


def printed(target: Target, *words: str) -> str:
    done = target.cli(*words)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def refusal(target: Target, *words: str) -> str:
    done = target.cli(*words)
    assert done.returncode == 1, (words, done.stdout, done.stderr)
    return done.stderr + done.stdout


def listed(target: Target, *words: str) -> dict[str, dict[str, Any]]:
    """The lines of a list by their names."""
    return {line["name"]: line for line in json.loads(printed(target, *words, "--json"))}


@pytest.fixture
def environment(target: Target) -> Iterator[str]:
    name = f"dev-{target.session}"
    modal.environments.create_environment(name, client=target.client)
    yield name
    left = [found.name for found in modal.environments.list_environments(client=target.client)]
    for each in (name, f"{name}-2"):
        if each in left:
            modal.environments.delete_environment(each, client=target.client)


@pytest.mark.row("CLI", "modal environment")
def test_environments_are_created_and_listed(target: Target) -> None:
    name = f"listed-{target.session}"
    printed(target, "environment", "create", name)
    found = listed(target, "environment", "list")
    assert (found[name]["web_suffix"], found["main"]["active"]) == (name, "True")
    assert "already exists" in refusal(target, "environment", "create", name)
    modal.environments.delete_environment(name, client=target.client)


@pytest.mark.slow
@pytest.mark.row("CLI", "modal environment")
def test_environments_are_renamed_with_what_is_in_them(target: Target, environment: str) -> None:
    printed(target, "dict", "create", "kept", "--env", environment)
    printed(target, "environment", "update", environment, "--set-name", f"{environment}-2", "--set-web-suffix", "sfx")
    assert listed(target, "environment", "list")[f"{environment}-2"]["web_suffix"] == "sfx"
    assert listed(target, "dict", "list", "--env", f"{environment}-2").keys() == {"kept"}
    assert f"Environment '{environment}' not found" in refusal(target, "dict", "list", "--env", environment)
    assert "not found" in refusal(target, "environment", "update", environment, "--set-name", "other")
    assert "already exists" in refusal(target, "environment", "update", f"{environment}-2", "--set-name", "main")
    assert "another Environment's" in refusal(target, "environment", "update", f"{environment}-2", "--set-web-suffix=")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal environment")
def test_environments_are_deleted_but_not_the_default_one(target: Target, environment: str) -> None:
    refused = target.cli("environment", "delete", environment, input="n\n")
    assert refused.returncode == 1
    assert environment in listed(target, "environment", "list")
    printed(target, "environment", "delete", environment, "--yes")
    assert environment not in listed(target, "environment", "list")
    assert "not found" in refusal(target, "environment", "delete", environment, "--yes")
    assert "default" in refusal(target, "environment", "delete", "main", "--yes")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal environment")
@pytest.mark.emulator_only("real workspaces have people")
def test_the_one_user_may_do_anything_in_an_environment(target: Target) -> None:
    assert json.loads(printed(target, "environment", "roles", "list", "main", "--json")) == {
        "users": {"local": "contributor"},
        "service_users": {},
    }


@pytest.mark.row("CLI", "modal secret")
def test_secrets_are_created_listed_replaced_only_when_told_and_deleted(target: Target) -> None:
    name = f"cli-{target.session}"
    printed(target, "secret", "create", name, "USER=me")
    assert listed(target, "secret", "list")[name]["created_by"]
    refusal(target, "secret", "create", name, "USER=other")
    printed(target, "secret", "create", "--force", name, "USER=other")
    printed(target, "secret", "delete", name, "--yes")
    assert name not in listed(target, "secret", "list")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal secret")
def test_secrets_are_read_from_files(target: Target, tmp_path: Any) -> None:
    name = f"files-{target.session}"
    (tmp_path / "env").write_text("A=1\nB='two words'\n")
    (tmp_path / "json").write_text('{"C": "3"}')
    files = ["--from-dotenv", str(tmp_path / "env"), "--from-json", str(tmp_path / "json")]
    assert "'A', 'B', 'C'" in printed(target, "secret", "create", name, *files)
    modal.Secret.from_name(name, required_keys=["A", "B", "C"]).hydrate(target.client)
    printed(target, "secret", "delete", name, "--yes")
    assert "not found" in refusal(target, "secret", "delete", name, "--yes")
    printed(target, "secret", "delete", name, "--yes", "--allow-missing")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal workspace proxy-tokens")
def test_proxy_tokens_are_created_listed_and_deleted(target: Target) -> None:
    created = json.loads(printed(target, "workspace", "proxy-tokens", "create", "--json"))
    key = created["Modal-Key"]
    assert created["Modal-Secret"].startswith("ws-")
    for words in ([], ["--environment", "main"]):
        lines = json.loads(printed(target, "workspace", "proxy-tokens", "list", "--json", *words))
        assert key in [line["token_id"] for line in lines]
    printed(target, "workspace", "proxy-tokens", "delete", key, "--yes")
    assert key not in printed(target, "workspace", "proxy-tokens", "list")
    refusal(target, "workspace", "proxy-tokens", "delete", key, "--yes")


@pytest.mark.slow
@pytest.mark.since("1.6")
@pytest.mark.row("CLI", "modal workspace proxy-tokens")
def test_proxy_tokens_have_names(target: Target) -> None:
    created = json.loads(printed(target, "workspace", "proxy-tokens", "create", "--name", "first", "--json"))
    key = created["Modal-Key"]
    assert created["Authorization"] == f"Bearer {key}.{created['Modal-Secret']}"
    printed(target, "workspace", "proxy-tokens", "update", key, "name", "second")
    lines = json.loads(printed(target, "workspace", "proxy-tokens", "list", "--json"))
    (line,) = [line for line in lines if line["token_id"] == key]
    assert (line["name"], line["scoped"], bool(line["created_by"])) == ("second", False, True)
    printed(target, "workspace", "proxy-tokens", "delete", key, "--yes")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal workspace members")
def test_there_is_an_owner(target: Target) -> None:
    assert "owner" in [line["role"] for line in listed(target, "workspace", "members", "list").values()]


@pytest.mark.slow
@pytest.mark.row("CLI", "modal workspace settings")
@pytest.mark.emulator_only("it changes what others of the account rely on")
def test_the_default_environment_is_the_one_that_is_meant_where_none_is_named(target: Target, environment: str) -> None:
    def settings() -> dict[str, str]:
        lines = json.loads(printed(target, "workspace", "settings", "list", "--json"))
        return {line["setting"]: line["value"] for line in lines}

    assert settings()["default-environment"] == "main"
    unnamed = {"MODAL_ENVIRONMENT": ""}
    try:
        printed(target, "workspace", "settings", "set", "default-environment", environment)
        assert target.cli("dict", "create", "of-the-default", env=unnamed).returncode == 0
    finally:
        printed(target, "workspace", "settings", "set", "default-environment", "main")
    assert "of-the-default" in listed(target, "dict", "list", "--env", environment)
    version = settings()["image-builder-version"]
    printed(target, "workspace", "settings", "set", "image-builder-version", version)
    assert f"{version} alone" in refusal(target, "workspace", "settings", "set", "image-builder-version", "2024.04")


@pytest.mark.slow
@pytest.mark.row("CLI", "modal token info")
def test_a_token_says_whose_it_is(target: Target) -> None:
    assert "Workspace:" in printed(target, "token", "info")
