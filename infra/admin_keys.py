"""`python -m infra.admin keys`: API keys in the table, made, listed, revoked and rotated without a running service."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from infra.access import KeyTerms
from infra.key_records import LONGEST_GRACE, KeyRecord, new_key, shown
from infra.key_store import KeyChanged, KeyIsRevoked, NoSuchKey, changed
from infra.key_table import KeysInTable
from infra.operating import fail, with_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.settings import Settings
    from infra.table import Table

app = typer.Typer(
    help="API keys in the table. Services heed a change within 10 seconds.", no_args_is_help=True, rich_markup_mode=None
)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="key_…, as `list` tells it")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of words")]

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION = re.compile(r"(\d{1,6})([smhd])")
PAGE = 100


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="for logs and people")],
    scope: Annotated[
        list[str] | None, typer.Option(help="inference, admin or metrics; may be repeated; inference unless given")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="that it may ask; may be repeated; all unless given")] = None,
    rate_limit: Annotated[int | None, typer.Option(metavar="N", help="requests a minute")] = None,
    tokens: Annotated[int | None, typer.Option(metavar="N", help="tokens a minute")] = None,
    budget: Annotated[float | None, typer.Option(help="of cost in a month, in the unit of the models' prices")] = None,
    expires: Annotated[str | None, typer.Option(metavar="WHEN", help="90d, 12h, or 2030-01-01T00:00:00Z")] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="may be repeated")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, and tell it: this once."""
    given: dict[str, Any] = {
        "name": name, "scopes": tuple(scope or ("inference",)), "models": tuple(model or ()),
        "rate_limit_per_minute": rate_limit, "tokens_per_minute": tokens, "monthly_budget": budget,
        "expires_at": _instant(expires) if expires is not None else None,
    }  # fmt: skip

    async def make(table: Table, settings: Settings) -> tuple[KeyRecord, str]:
        for one in given["models"]:
            if settings.models.find(one) is None:
                fail(f"--model: {one!r} is not configured", status=2)
        try:
            record, secret = new_key(KeyTerms(**given), labels=_labels(label or []), now=time.time())
        except ValidationError as error:
            first = error.errors()[0]
            fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", status=2)
        await KeysInTable(table, time=time.time).create(record)
        return record, secret

    _tell_secret(*with_table(make), as_json=as_json)


@app.command("list")
def list_keys(as_json: AsJson = False) -> None:
    """All keys, the newest first; those that were revoked, for 90 days."""

    async def read(table: Table, _: Settings) -> list[KeyRecord]:
        store, found = KeysInTable(table, time=time.time), list[KeyRecord]()
        while page := await store.page(after=found[-1].id if found else None, limit=PAGE):
            found += page
        return found

    records = with_table(read)
    if as_json:
        _print_json([shown(record, time.time()) for record in records])
    elif records:
        _print_table(records)
    else:
        typer.echo("There are no keys. `python -m infra.admin keys create NAME --scope admin` makes one.")


@app.command()
def show(key_id: KeyId, as_json: AsJson = False) -> None:
    """All that is known of a key."""

    async def read(table: Table, _: Settings) -> KeyRecord | None:
        return await KeysInTable(table, time=time.time).get(key_id)

    record = with_table(read)
    if record is None:
        fail(f"there is no key {key_id}")
    told = shown(record, time.time())
    if as_json:
        _print_json(told)
        return
    for field, value in told.items():
        if field != "object":
            typer.echo(f"{field:22} {_worded(field, value)}")


@app.command()
def revoke(key_id: KeyId, as_json: AsJson = False) -> None:
    """Refuse a key for good: everywhere, within 10 seconds."""
    record = _change(key_id, lambda was: was.revoked(time.time()))
    if as_json:
        _print_json(shown(record, time.time()))
    else:
        typer.echo(f"{record.id} ({record.name}, …{record.hint}) is revoked")


@app.command()
def rotate(
    key_id: KeyId,
    grace: Annotated[str, typer.Option(metavar="TIME", help="that the key before is accepted for: 1h, 7d")] = "0s",
    as_json: AsJson = False,
) -> None:
    """Give a key another secret, and tell it: this once. Its id, limits and sessions stay."""
    seconds = _duration(grace)
    if seconds is None or seconds > LONGEST_GRACE:
        fail(f"--grace: expected a time of at most 30 days, as 1h or 7d, got {grace!r}", status=2)
    secret = ""

    def turn(was: KeyRecord) -> KeyRecord:
        nonlocal secret
        record, secret = was.rotated(time.time(), grace=seconds)
        return record

    record = _change(key_id, turn)
    _tell_secret(record, secret, as_json=as_json)


def _change(key_id: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
    async def make(table: Table, _: Settings) -> KeyRecord:
        return await changed(KeysInTable(table, time=time.time), key_id, change)

    try:
        return with_table(make)
    except NoSuchKey:
        fail(f"there is no key {key_id}")
    except KeyIsRevoked:
        fail(f"{key_id} is revoked already")
    except KeyChanged:
        fail(f"{key_id} is being changed by somebody else; try again")


def _instant(text: str) -> datetime:
    """A time, or how far off it is."""
    seconds = _duration(text)
    try:
        if seconds is not None:
            return datetime.now(UTC) + timedelta(seconds=seconds)
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        fail(f"--expires: expected 90d, 12h, or a time as 2030-01-01T00:00:00Z, got {text!r}", status=2)
    if at.tzinfo is not None and at <= datetime.now(UTC):
        fail(f"--expires: {text} is over", status=2)
    if at.tzinfo is None:
        fail(f"--expires: expected a time with its zone, as 2030-01-01T00:00:00Z, got {text!r}", status=2)
    return at


def _duration(text: str) -> float | None:
    found = DURATION.fullmatch(text)
    return None if found is None else timedelta(**{UNITS[found[2]]: int(found[1])}).total_seconds()


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            fail(f"--label: expected NAME=VALUE, got {one!r}", status=2)
        labels[name] = value
    return labels


def _tell_secret(record: KeyRecord, secret: str, *, as_json: bool) -> None:
    if as_json:
        _print_json({**shown(record, time.time()), "key": secret})
        return
    typer.echo(secret)
    typer.echo(f"{record.id} ({record.name}). The key is not kept and cannot be told again.", err=True)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(records: list[KeyRecord]) -> None:
    from rich.console import Console
    from rich.table import Table as Shown
    from rich.text import Text

    table = Shown(box=None, pad_edge=False)
    for heading in ("id", "name", "key", "scopes", "status", "made", "last used"):
        table.add_column(heading, no_wrap=heading == "id")
    for record in records:
        told = shown(record, time.time())
        cells = [
            told["id"], told["name"], f"…{told['hint']}", " ".join(told["scopes"]), told["status"],
            _worded("created_at", told["created_at"]), _worded("last_used_at", told["last_used_at"]),
        ]  # fmt: skip
        table.add_row(*map(Text, cells))
    Console().print(table)


def _worded(field: str, value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if field.endswith(("_at", "_until")):
        return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M}"
    if isinstance(value, list):
        return " ".join(value)
    return " ".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else str(value)
