"""Runs the checks, all at once and none for ever."""

from __future__ import annotations

import dataclasses
import queue
import re
import threading
import time
from typing import TYPE_CHECKING

from infra.doctor.cloud import check_modal
from infra.doctor.engines import check_hub, check_models, check_service
from infra.doctor.findings import Finding
from infra.doctor.machine import check_machine
from infra.doctor.protection import check_protection
from infra.doctor.state import check_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from infra.doctor.findings import Case, Level

    Told = queue.SimpleQueue[Finding | None]

CHECKS: Mapping[str, Callable[[Case], Iterator[Finding]]] = {
    "machine": check_machine,
    "keys": check_protection,
    "models": check_models,
    "hugging face": check_hub,
    "aws": check_state,
    "modal": check_modal,
    "service": check_service,
}
"""What is looked at, in the order in which it is told. Each may take its time; together they have `seconds`."""
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD", re.IGNORECASE)
_SHORTEST_SECRET = 8


def examine(
    case: Case, *, seconds: float, checks: Mapping[str, Callable[[Case], Iterator[Finding]]] = CHECKS
) -> Iterator[Finding]:
    """The findings, in order. A check that has not ended after `seconds` is told as such, and left behind."""
    deadline = time.monotonic() + seconds
    queues: dict[str, Told] = {name: queue.SimpleQueue() for name in checks}
    for name, check in checks.items():
        arguments = (name, check, case, queues[name])
        threading.Thread(target=_run, args=arguments, name=f"doctor-{name}", daemon=True).start()
    secrets = _secrets_of(case)
    for name, told in queues.items():
        for finding in _told(told, deadline):
            if finding is None:
                yield Finding(name, _unanswered(name, case), f"no answer within {seconds:g} s", "check the network")
            else:
                yield _free_of(secrets, finding)


def _unanswered(name: str, case: Case) -> Level:
    if name == "hugging face":  # the weights may be here
        return "WARN"
    if name == "modal":
        return case.bad("modal")
    return (case.bad_state or "FAIL") if name == "aws" else "FAIL"


def _told(told: Told, deadline: float) -> Iterator[Finding | None]:
    """What a check says until it ends; None, at last, where that is not before the deadline."""
    while True:
        try:
            finding = told.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            yield None
            return
        if finding is None:
            return
        yield finding


def _run(name: str, check: Callable[[Case], Iterator[Finding]], case: Case, told: Told) -> None:
    try:
        for finding in check(case):
            told.put(finding)
    except Exception as error:  # a doctor who faints says so, and goes on
        told.put(Finding(name, "FAIL", f"the check itself failed: {type(error).__name__}: {error}", "report this"))
    told.put(None)


def _secrets_of(case: Case) -> list[str]:
    """What must not be told, whoever's message it is in. The longest first: one may begin as another does."""
    token = case.settings.models.hf_token
    found = {value for name, value in case.environment.items() if _SECRET.search(name)}
    found |= {token.get_secret_value()} if token else set()
    return sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)


def _free_of(secrets: list[str], finding: Finding) -> Finding:
    says, do = finding.says, finding.do
    for secret in secrets:
        says, do = says.replace(secret, "…"), do.replace(secret, "…")
    return dataclasses.replace(finding, says=says, do=do)
