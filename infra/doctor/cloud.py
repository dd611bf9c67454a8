"""Modal: the account's token, what `infra.setup` makes there, and what is deployed. Nothing is started by looking."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infra.doctor.findings import Finding
from infra.secrets import SecretNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.doctor.findings import Case, Level

CONNECT_SECONDS = 3.0
PORTS = {"http": 80, "https": 443}
SETUP = "python -m infra.setup"


def check_modal(case: Case) -> Iterator[Finding]:
    if not case.looks_at("modal"):
        return
    import modal

    bad = case.bad("modal")
    names = SecretNames.of(case.settings.deploy.app_name)
    if (reason := _unreachable(modal.config.config["server_url"])) is not None:  # its client would try for a minute
        yield Finding("modal token", bad, f"Modal does not answer: {reason}", "check the network, and MODAL_SERVER_URL")
        return
    try:
        secrets = {secret.name for secret in modal.Secret.objects.list()}
    except modal.exception.AuthError as error:
        yield Finding("modal token", bad, f"Modal refuses: {_first_line(error)}", "modal setup")
        return
    except (modal.exception.Error, OSError) as error:
        yield Finding("modal token", bad, f"Modal cannot be asked: {_first_line(error)}",
                      "check the network, and MODAL_ENVIRONMENT")  # fmt: skip
        return
    yield Finding("modal token", "OK", "Modal takes it")
    wanted = [names.web, names.engine, *([case.settings.state.secret] if case.settings.state.secret else [])]
    missing = [name for name in wanted if name not in secrets]
    if missing:
        own = [name for name in missing if name != case.settings.state.secret]
        do = SETUP if own else f"modal secret create {missing[0]} AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=…"
        yield Finding("modal secrets", bad, f"missing: {', '.join(missing)}", do)
    else:
        yield Finding("modal secrets", "OK", ", ".join(wanted))
    yield _proxy_token(names.web, bad=bad, kept=names.web in secrets)
    yield _deployed(case)


def _unreachable(url: str) -> str | None:
    """Why nothing can be connected to there."""
    told = urlsplit(url)
    try:
        with socket.create_connection((told.hostname, told.port or PORTS.get(told.scheme, 443)), CONNECT_SECONDS):
            return None
    except OSError as error:
        return str(error.strerror or error)


def _proxy_token(name: str, *, bad: Level, kept: bool) -> Finding:
    """What is in a Secret nobody is told: so whether the token is there by which the web endpoint's goes."""
    import modal

    try:
        there = any(token.name == name for token in modal.Workspace.from_context().proxy_tokens.list())
    except modal.exception.Error as error:
        return Finding("proxy token", "WARN", f"cannot be looked up: {_first_line(error)}",
                       "ask an owner of the workspace: modal workspace proxy-tokens list")  # fmt: skip
    if there:
        return Finding("proxy token", "OK", name)
    if kept:  # the Secret names one that is gone
        says = f"{name} is gone, so the engines would refuse the web endpoint"
        return Finding("proxy token", bad, says, f"{SETUP} --rotate")
    return Finding("proxy token", bad, f"there is no {name}", SETUP)


def _deployed(case: Case) -> Finding:
    import modal

    name = case.settings.deploy.app_name
    try:
        modal.App.lookup(name)
    except modal.exception.NotFoundError:
        return Finding("modal app", "WARN", f"{name} is not deployed", "modal deploy app.py")
    except modal.exception.Error as error:
        return Finding("modal app", "WARN", f"{name} cannot be looked up: {_first_line(error)}", "try again")
    return Finding("modal app", "OK", f"{name} is deployed")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
