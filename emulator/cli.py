"""The `emulator` command. What is about apps stays with the `modal` command, which runs unchanged."""

from __future__ import annotations

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from emulator.problem import Problem
from emulator.storage.store import StateError

STATE = Path(".modal-emulator")
"""Where `up` keeps an emulator's state, unless told: beside the app."""


class Containers(StrEnum):
    """How containers are made on this machine."""

    zygote = "zygote"
    process = "process"
    auto = "auto"


ContainersOption = Annotated[
    Containers, typer.Option(help="forks of a warm process (Linux), subprocesses, or what suits this machine")
]
RunCommandsOption = Annotated[bool, typer.Option("--run-commands", help="run the shell commands of images, as you")]
StateOption = Annotated[Path, typer.Option("--state", metavar="DIR", help="where the emulator keeps its state")]

app = typer.Typer(
    help="A local Modal: runs the unmodified modal CLI, SDK and container runtime on this machine.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

state_app = typer.Typer(help="What `up` keeps, as a file, or forgotten.", no_args_is_help=True)
app.add_typer(state_app, name="state")
images_app = typer.Typer(help="The Python environments that images have, which are kept.", no_args_is_help=True)
app.add_typer(images_app, name="images")


@app.command()
def up(
    app_ref: Annotated[str, typer.Argument(help="as for `modal deploy`: a file, or a module's name")] = "app.py",
    port: Annotated[int, typer.Option(min=0, max=65535, help="for the app's first public address; 0: any")] = 3000,
    before: Annotated[
        list[str] | None, typer.Option(metavar="COMMAND", help="run this before deploying; may be repeated")
    ] = None,
    state: StateOption = STATE,
    containers: ContainersOption = Containers.auto,
    reload: Annotated[bool, typer.Option(help="deploy again when a source file changes")] = True,
    ready_path: Annotated[
        str | None, typer.Option(metavar="PATH", help="ready only when this path answers below 500")
    ] = None,
    run_commands: RunCommandsOption = False,
) -> None:
    """Start an emulator, deploy an app to it, and run it until Ctrl-C."""
    from emulator.up import Up, run

    if ready_path is not None and not ready_path.startswith("/"):
        raise typer.BadParameter(f"{ready_path!r} does not begin with /", param_hint="--ready-path")
    options = Up(
        app_ref=app_ref,
        port=port,
        before=tuple(before or ()),
        state=state,
        containers=containers.value,
        reload=reload,
        ready_path=ready_path,
        run_commands=run_commands,
    )
    raise typer.Exit(run(options))


@app.command(context_settings={"allow_interspersed_args": False})
def exec(  # noqa: A001
    command: Annotated[list[str], typer.Argument(help="the command and its arguments, after --")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="for the first public address; 0: any")] = 0,
    containers: ContainersOption = Containers.auto,
    quiet: Annotated[bool, typer.Option("--quiet", help="do not show what containers write")] = False,
    run_commands: RunCommandsOption = False,
) -> None:
    """Run a command with a fresh emulator around it, and exit with its exit code."""
    from emulator.execute import execute

    raise typer.Exit(execute(command, port=port, containers=containers.value, quiet=quiet, run_commands=run_commands))


@app.command()
def env(state: StateOption = STATE) -> None:
    """Print the environment for the emulator that `up` runs here: eval "$(emulator env)"."""
    from emulator.record import read

    for name, value in read(state).items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@state_app.command("export")
def state_export(
    file: Annotated[Path, typer.Argument(help="to write, compressed if it is called ….gz")], state: StateOption = STATE
) -> None:
    """Write all that is kept into one file, Secrets included: only you can read it."""
    from emulator.storage.archive import export

    done = export(state, file)
    typer.echo(f"{file}: {done.entries} entries, {done.size / 1e6:.1f} MB; Secrets are in it, so its mode is 0600")


@state_app.command("import")
def state_import(
    file: Annotated[Path, typer.Argument(help="that `emulator state export` has written")],
    state: StateOption = STATE,
    replace: Annotated[bool, typer.Option("--replace", help="what is kept there already is lost")] = False,
) -> None:
    """Put what was exported into the state directory. The next `emulator up` there goes on from it."""
    from emulator.storage.archive import restore

    done = restore(state, file, replace=replace)
    typer.echo(f"{state}: {done.entries} entries, {done.size / 1e6:.1f} MB")


@state_app.command("reset")
def state_reset(
    state: StateOption = STATE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
) -> None:
    """Forget everything: apps, Secrets, Volumes, Dicts, Queues, S3 and DynamoDB."""
    from emulator.storage.archive import reset

    if not yes:
        typer.confirm(f"Everything that is kept in {state} will be lost. Go on?", abort=True)
    reset(state)
    typer.echo(f"{state} is empty")


@images_app.command("list")
def images_list(state: StateOption = STATE) -> None:
    """Show the environments that are kept, the newest first, with their sizes (what several share counts in each)."""
    from emulator.images.listing import lines

    for line in lines(state):
        typer.echo(line)


@images_app.command("prune")
def images_prune(state: StateOption = STATE) -> None:
    """Remove the environments that no emulator uses now: the next deploy builds what it needs again."""
    from emulator.images.listing import prune

    typer.echo(prune(state))


def main() -> None:
    """Run the command line and exit: 1 for what went wrong, 2 for what was asked wrongly."""
    usage_error = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
    try:
        status = app(standalone_mode=False)
    except Problem as problem:
        _fail(str(problem), problem.status)
    except StateError as problem:
        _fail(str(problem), 1)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        if not isinstance(error, usage_error):
            if os.environ.get("EMULATOR_TRACEBACK"):
                raise
            _fail(f"internal error: {error!r} (EMULATOR_TRACEBACK=1 shows where)", 1)
        _fail(error.format_message(), error.exit_code)  # type: ignore[attr-defined]
    sys.exit(status if isinstance(status, int) else 0)


def _fail(text: str, status: int) -> NoReturn:
    print(f"emulator: {text}", file=sys.stderr)
    sys.exit(status)
