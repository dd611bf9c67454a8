"""Commands of `modal` that are not about apps: what of them works, and what is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.parity.kit import Target

NOT_IMPLEMENTED = "The emulator does not implement"


def refused_by_name(target: Target, *words: str) -> str:
    """The name of what is missing, as the command's error has it."""
    done = target.cli(*words)
    assert done.returncode == 1, (words, done.stdout, done.stderr)
    assert NOT_IMPLEMENTED in done.stderr, (words, done.stderr)
    return done.stderr.partition(NOT_IMPLEMENTED)[2].split()[0]


@pytest.mark.slow
@pytest.mark.emulator_only("real Modal does it")
@pytest.mark.parametrize(
    ("words", "missing"),
    [
        pytest.param(["nfs", "list"], "SharedVolumeList", marks=pytest.mark.row("CLI", "modal nfs")),
        pytest.param(["image", "names", "list"], "ImageListTags", marks=pytest.mark.row("CLI", "modal image")),
        pytest.param(["endpoint", "list"], "EndpointList", marks=pytest.mark.row("CLI", "modal endpoint")),
        pytest.param(
            ["server", "deploy", "--image", "docker.io/nginx", "--port", "80"],
            "ImageGetByTag",
            marks=pytest.mark.row("CLI", "modal server deploy"),
        ),
        pytest.param(["billing", "rates"], "WorkspaceBillingRates", marks=pytest.mark.row("CLI", "modal billing")),
        pytest.param(["dashboard"], "WorkspaceDashboardUrlGet", marks=pytest.mark.row("CLI", "modal dashboard")),
        pytest.param(
            ["workspace", "service-users", "list"],
            "ServiceUserList",
            marks=[pytest.mark.row("CLI", "modal workspace service-users and member-tokens"), pytest.mark.since("1.6")],
        ),
        pytest.param(
            ["workspace", "proxy-tokens", "allow", "wk-1", "main"],
            "WebhookTokenEnvironmentAdd",
            marks=pytest.mark.row("CLI", "modal workspace proxy-tokens"),
        ),
        pytest.param(
            ["environment", "roles", "update", "main", "local", "--role", "viewer"],
            "EnvironmentRoleSet",
            marks=pytest.mark.row("CLI", "modal environment"),
        ),
        pytest.param(
            ["environment", "create", "restricted", "--restricted"],
            "restricted",
            marks=pytest.mark.row("CLI", "modal environment"),
        ),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(target: Target, words: list[str], missing: str) -> None:
    assert refused_by_name(target, *words) == missing


@pytest.mark.slow
@pytest.mark.row("CLI", "modal profile and config")
@pytest.mark.emulator_only("a real account has a profile")
def test_profiles_and_configuration_are_the_clients_own(target: Target, tmp_path: Path) -> None:
    file = {"MODAL_CONFIG_PATH": str(tmp_path / "modal.toml")}
    shown = target.cli("config", "show", env=file)
    assert shown.returncode == 0
    assert target.emulator.server_url in shown.stdout
    assert target.cli("profile", "current", env=file).stdout.strip()


@pytest.mark.slow
@pytest.mark.row("CLI", "modal setup and token")
@pytest.mark.emulator_only("real Modal gives tokens")
@pytest.mark.parametrize(
    "words", [["setup"], ["token", "new"], ["token", "set", "--token-id", "a", "--token-secret", "b"]]
)
def test_no_other_token_than_the_emulators_own_is_made_or_taken(
    target: Target, tmp_path: Path, words: list[str]
) -> None:
    path = tmp_path / "modal.toml"
    done = target.cli(*words, env={"MODAL_CONFIG_PATH": str(path)})
    assert done.returncode == 1
    assert "this emulator takes only its own token" in done.stderr
    assert not path.exists()


@pytest.mark.slow
@pytest.mark.row("CLI", "modal skills and changelog")
def test_skills_are_the_clients_own(target: Target) -> None:
    done = target.cli("skills", "show")
    assert done.returncode == 0
    assert "modal" in done.stdout
