"""Who may use the service: keys, and files that hold them."""

from __future__ import annotations

import asyncio
import stat
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from infra.aws import Clients, StateUnavailable
from infra.configuration import ConfigurationError, refuse_locked_out
from infra.doctor.findings import FORMS, Finding
from infra.key_table import KeysInTable
from infra.refusals import refuse_unprotected_deploy, refuse_unprotected_host, refuse_without_credentials
from infra.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infra.doctor.findings import Case, Form

SECRET_KEYS = ("key", "api_keys", "hf_token")
OF_FORM = {
    "serve": (refuse_unprotected_host, refuse_locked_out),
    "modal": (refuse_unprotected_deploy, refuse_without_credentials, refuse_locked_out),
}


def check_protection(case: Case) -> Iterator[Finding]:
    for form in FORMS:
        if case.looks_at(form):
            yield _keys(case, form)
    if (path := Path(case.environment.get("CONFIG_FILE") or "config.toml")).is_file():
        yield config_file(path)


def _keys(case: Case, form: Form) -> Finding:
    check = f"keys for {form}"
    settings = case.settings_of(form)
    for refuse in OF_FORM[form]:
        try:
            refuse(settings)
        except ConfigurationError as error:
            says, _, do = str(error).partition("; ")
            return Finding(check, case.bad(form), says, do)
    security = settings.security
    if not security.enable_auth:
        if form == "modal" and settings.deploy.target == "modal":
            return Finding(check, "WARN", "none are asked for (security.allow_public): anybody may use the endpoint",
                           "unless that is meant, set security.enable_auth")  # fmt: skip
        return Finding(check, "OK", "none are asked for")
    count = sum(key.enabled for key in security.api_keys)
    if count or settings.state.kind != "aws":
        return Finding(check, "OK", f"asked for; {count} in the configuration")
    return _keys_in_table(case, form)


def _keys_in_table(case: Case, form: Form) -> Finding:
    check = f"keys for {form}"
    with closing(Clients(region_name=case.settings.state.region)) as clients:
        store = KeysInTable(Table(clients, case.settings.table_name), time=time.time)
        try:
            some = asyncio.run(store.page(after=None, limit=1))
        except StateUnavailable:
            return Finding(check, "WARN", "asked for; those in the table cannot be read", "see the table")
    if some:
        return Finding(check, "OK", "asked for; they are in the table")
    return Finding(check, case.bad(form), "asked for, and there are none, so every request is refused",
                   "python -m infra.admin keys create NAME --scope inference --scope admin")  # fmt: skip


def config_file(path: Path) -> Finding:
    """Whether others on this machine can read secrets from it."""
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Finding("config file", "WARN", f"{path}: {error.strerror or error}", "check its owner and rights")
    lines = [line.strip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    names = [line.partition("=")[0].strip() for line in lines if "=" in line and '"sha256:' not in line]
    secret = any(name in SECRET_KEYS for name in names)
    if secret and mode & (stat.S_IRGRP | stat.S_IROTH):
        return Finding("config file", "WARN", f"{path} holds a secret, and other users of this machine may read it",
                       f"chmod 600 {path}; or keep keys as sha256:…, and HF_TOKEN in the environment")  # fmt: skip
    return Finding("config file", "OK", str(path))
