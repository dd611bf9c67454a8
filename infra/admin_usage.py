"""`python -m infra.admin usage`: who has used what, read from the table without a running service."""

from __future__ import annotations

import csv
import json
import sys
import time
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.operating import fail, with_table
from infra.usage import day_of
from infra.usage_report import PARTS, Line, Part, read, report, total
from infra.usage_table import UsageTable

if TYPE_CHECKING:
    from infra.settings import Settings
    from infra.table import Table

NUMBERS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "engine_seconds", "cost")


def usage(
    since: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="2026-11-01 (UTC); of this month the first unless given")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="DAY", help="the last day; today unless given")] = None,
    key: Annotated[str | None, typer.Option(help="of this key alone: its identity or name")] = None,
    model: Annotated[str | None, typer.Option(help="of this model alone: its id or name")] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="key, model, day or month: what to tell apart; may be repeated; "
                                            "key, model and day unless given")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV instead of a table")] = False,
) -> None:  # fmt: skip
    """What was used, by key, model and day: tokens, requests, engine seconds and cost.

    What containers have counted in the last few seconds is not in it yet."""
    if as_json and as_csv:
        fail("--json and --csv: expected one of them", status=2)
    today = day_of(time.time())
    first, last = _day("--from", since) or f"{today[:7]}-01", _day("--to", until) or today
    if first > last:
        fail(f"--from: {first} is after {last}", status=2)
    parts = _parts(by or ["key", "model", "day"])

    async def look(table: Table, settings: Settings) -> tuple[list[Line], str]:
        store = UsageTable(table, keep_days=settings.usage.keep_days)
        rows, names = await read(store, key=key, since=first, until=last)
        found = None if model is None else settings.models.find(model)
        lines = report(rows, names, by=parts, model=model if found is None else found.id)
        return lines, settings.usage.currency

    lines, currency = with_table(look)
    if as_json:
        told = {
            "from": first, "to": last, "currency": currency, "data": [_values(line, parts) for line in lines],
            "total": _values(total(lines), ()),
        }  # fmt: skip
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif as_csv:
        _print_csv(lines, parts)
    elif lines:
        _print_table(lines, parts, currency)
    else:
        typer.echo(f"Nothing was used from {first} to {last}.")


def _day(option: str, given: str | None) -> str | None:
    try:
        return None if given is None else date.fromisoformat(given).isoformat()
    except ValueError:
        fail(f"{option}: expected a day as 2026-11-01, got {given!r}", status=2)


def _parts(given: list[str]) -> list[Part]:
    unknown = [one for one in given if one not in PARTS]
    if unknown:
        fail(f"--by: expected {', '.join(PARTS)}, got {unknown[0]!r}", status=2)
    return [part for part in PARTS if part in given]


def _values(line: Line, parts: list[Part] | tuple[()]) -> dict[str, Any]:
    told: dict[str, Any] = {part: getattr(line, part) for part in parts}
    if "key" in told:
        told["name"] = line.name
    numbers = line.amounts._asdict() | {"engine_seconds": line.engine_seconds, "cost": line.cost}
    return told | {name: numbers[name] for name in (*NUMBERS, "estimated_requests")}


def _print_csv(lines: list[Line], parts: list[Part]) -> None:
    writer = csv.DictWriter(sys.stdout, list(_values(total(lines), parts)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_values(line, parts) for line in lines)


def _print_table(lines: list[Line], parts: list[Part], currency: str) -> None:
    from rich.console import Console
    from rich.table import Table as Shown
    from rich.text import Text

    table = Shown(box=None, pad_edge=False)
    for part in parts:
        table.add_column(part, no_wrap=True)
    for name in NUMBERS:
        table.add_column(f"cost ({currency})" if name == "cost" else name.replace("_", " "), justify="right")
    sums = total(lines)
    for line in [*lines, sums]:
        told = _values(line, parts)
        heads = ["" if line is sums else line.name or told[part] if part == "key" else told[part] for part in parts]
        numbers = [f"{told[name]:.1f}" if name == "engine_seconds" else str(told[name]) for name in NUMBERS]
        table.add_row(*map(Text, [*heads, *numbers]))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
