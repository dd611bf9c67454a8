"""Where the service keeps what outlives it: credentials, the clock by which AWS believes them, table and bucket."""

from __future__ import annotations

import asyncio
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.error import HTTPError, URLError
from urllib.request import Request

from infra.aws import Clients, StateUnavailable
from infra.doctor.findings import Finding
from infra.doctor.machine import opened
from infra.provision import Provision, ProvisionError
from infra.table import Key, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infra.doctor.findings import Case, Level
    from infra.provision import Step

SKEW_WARNS, SKEW_FAILS = 60.0, 300.0
"""Seconds. DynamoDB refuses a signature whose time is five minutes off its own."""


def check_state(case: Case) -> Iterator[Finding]:
    bad = case.bad_state
    if bad is None:
        yield Finding("state", "OK", 'state.kind is "memory": sessions, files and batches end with their process')
        return
    clients = Clients(region_name=case.settings.state.region)
    with closing(clients):
        yield from _state(case, clients, bad)


def _state(case: Case, clients: Clients, bad: Level) -> Iterator[Finding]:
    found = credentials(case, bad)
    yield found
    if found.level != "OK":
        return
    clock = _clock(case, clients, bad)
    yield clock
    if clock.level == bad and "does not answer" in clock.says:
        return
    names = {"table_name": case.settings.table_name, "bucket_name": case.settings.bucket_name}
    where = Provision(clients, **names, archive_days=case.settings.state.archive_days)
    yield _provisioned("table", case.settings.table_name, where.table_steps, bad, lambda: _read(clients, case))
    yield _provisioned("bucket", case.settings.bucket_name, where.bucket_steps, bad, lambda: None)


def credentials(case: Case, bad: Level) -> Finding:
    """Whether boto3 finds some. Those of containers on Modal are another matter: `state.role_arn` or `state.secret`."""
    import boto3
    from botocore.exceptions import BotoCoreError

    check = "aws credentials"
    try:
        session = boto3.Session(region_name=case.settings.state.region)
        found = session.get_credentials()
    except BotoCoreError as error:
        return Finding(check, bad, str(error), "check AWS_PROFILE and ~/.aws")
    if found is None:
        do = 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; state.kind = "memory" needs none'
        return Finding(check, bad, "boto3 finds none", do)
    if session.region_name is None:
        return Finding(check, bad, f"found ({found.method}), and no region", "set state.region, or AWS_DEFAULT_REGION")
    return Finding(check, "OK", f"found ({found.method}), for {session.region_name}")


def _clock(case: Case, clients: Clients, bad: Level) -> Finding:
    url = clients.client("dynamodb").meta.endpoint_url
    began = case.now()
    try:
        date = _date_of(url)
    except (OSError, ValueError) as error:
        return Finding("clock", bad, f"AWS does not answer: {error}", f"check the network, and that {url} is right")
    return clock_finding((began + case.now()) / 2 - date, bad)


def clock_finding(skew: float, bad: Level) -> Finding:
    """`skew`: seconds that this machine is ahead of AWS."""
    told = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} AWS"
    if abs(skew) >= SKEW_FAILS:
        return Finding("clock", bad, f"{told}, which refuses what is signed more than 5 minutes off",
                       "set the clock: timedatectl set-ntp true")  # fmt: skip
    if abs(skew) >= SKEW_WARNS:
        return Finding("clock", "WARN", told, "set the clock: timedatectl set-ntp true")
    return Finding("clock", "OK", "right to within a minute of AWS")


def _date_of(url: str) -> float:
    """What time it is there, by the header `Date` of any answer. Raises OSError, ValueError."""
    try:
        with opened(Request(url, method="HEAD")) as answer:  # noqa: S310 - boto3's own address
            date = answer.headers["Date"]
    except HTTPError as error:
        date = error.headers["Date"]
    except URLError as error:
        raise OSError(str(error.reason)) from None
    if date is None:
        raise ValueError("no Date in the answer")
    return parsedate_to_datetime(date).timestamp()


def _provisioned(
    check: str, name: str, steps: Callable[[], Iterator[Step]], bad: Level, use: Callable[[], object]
) -> Finding:
    try:
        missing = [step.what for step in steps()]
        if f"{check} {name}" in missing:
            return Finding(check, bad, f"there is no {check} {name}", "make it: python -m infra.setup")
        use()
    except ProvisionError as error:
        return Finding(check, bad, f"{name}: not as it must be", str(error))
    except StateUnavailable as error:
        return Finding(check, bad, f"{name}: {error}", "check the credentials' rights: python -m infra.setup --policy")
    if missing:
        lacks = ", ".join(what.removeprefix(f"{check} {name}: ") for what in missing)
        return Finding(check, "WARN", f"{name} is there and lacks: {lacks}", "python -m infra.setup")
    return Finding(check, "OK", f"{name} is as it must be")


def _read(clients: Clients, case: Case) -> None:
    """One item, which is not there: to describe a table and to read it are two rights."""
    asyncio.run(Table(clients, case.settings.table_name).get(Key("doctor", "doctor"), consistent=False))
