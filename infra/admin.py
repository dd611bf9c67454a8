"""What an operator does with a deployed service's state: `python -m infra.admin`.

It works on the table that the configuration names, in AWS or wherever boto3's environment says (`AWS_ENDPOINT_URL`: for
the emulator, `eval "$(emulator env)"`), and needs no running service.
"""

from __future__ import annotations

import typer

from infra import admin_keys, admin_usage

app = typer.Typer(
    help="An operator's work on the state of the service: on the table that the configuration names.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


app.add_typer(admin_keys.app, name="keys")
app.command("usage")(admin_usage.usage)

if __name__ == "__main__":
    app()
