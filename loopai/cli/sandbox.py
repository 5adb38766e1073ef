"""`loopai sandbox`: whether this machine can run programs safely."""

import asyncio
from typing import Annotated

import msgspec
import typer

from loopai.cli import cell, failure, options, output

app = typer.Typer(help="The boundary around programs.", no_args_is_help=True)
app.command("run")(cell.run)


@app.command()
def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing when all is well.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say whether programs can be sandboxed here, and what is missing if not.

    Example: `loopai sandbox doctor`
    """
    from loopai.sandbox import doctor as sandbox  # noqa: PLC0415 (kept from `loopai --help`)

    try:
        report = asyncio.run(sandbox.require())
    except sandbox.Unavailable as error:
        raise failure.Failure(str(error)) from error
    if as_json:
        output.print_json(msgspec.json.encode(report))
    elif not quiet:
        fields = msgspec.structs.asdict(report)
        rows = [
            (name.replace("_", " "), f"{value:.0f}" if isinstance(value, float) else str(value))
            for name, value in fields.items()
        ]
        output.stdout().print(output.grid(("", ""), rows))
