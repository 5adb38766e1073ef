"""The `loopai` command. `main`, its entry point, turns failures into a line and an exit code."""

import importlib.metadata
import os
import sys
from typing import Annotated

import typer

from loopai import errors
from loopai.cli import (
    api,
    artifact,
    audit,
    batch,
    demo,
    dev,
    doctor,
    execution,
    failure,
    health,
    key,
    operation,
    queues,
    rollout,
    run,
    sandbox,
    sync,
    tasks,
    top,
    webhook,
)

app = typer.Typer(
    name="loopai",
    help="Turn a task into a program once, and run it millions of times.",
    epilog="Start with `loopai demo`, then `loopai dev` and `loopai task create --help`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.command("dev")(dev.dev)
app.command("demo")(demo.demo)
app.add_typer(tasks.app, name="task")
app.add_typer(artifact.app, name="artifact")
app.add_typer(rollout.app, name="rollout")
app.command("doctor")(doctor.doctor)
app.command("run")(run.run)
app.command("batch")(batch.batch)
app.add_typer(execution.app, name="execution")
app.add_typer(operation.app, name="operation")
app.command("queues")(queues.queues)
app.command("top")(top.top)
app.command("health")(health.health)
app.command("sync")(sync.sync)
app.add_typer(audit.app, name="audit")
app.add_typer(webhook.app, name="webhook")
app.add_typer(key.app, name="key")
app.add_typer(sandbox.app, name="sandbox")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"loopai {importlib.metadata.version('loopai')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help=f"Who asks the API; better in {api.KEY_VARIABLE}, which `ps` does not show.",
        ),
    ] = None,
) -> None:
    if api_key is not None:
        # For all commands at once: they read it where they would read the variable.
        os.environ[api.KEY_VARIABLE] = api_key


def main(arguments: list[str] | None = None) -> None:
    """Run the command. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C."""
    try:
        # The name also where it is called as a module: usage shows it, and shells complete it.
        app(args=arguments, prog_name="loopai")
    except failure.Failure as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except errors.StartupError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
