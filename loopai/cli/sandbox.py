"""`loopai sandbox`: whether this machine can run programs safely, and running one in a cell."""

import asyncio
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from loopai.cli import cell, failure, options, output

if TYPE_CHECKING:
    from loopai.sandbox import doctor as doctor_

app = typer.Typer(help="The boundary around programs.", no_args_is_help=True)
app.command("run")(cell.run)


@app.command()
def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing when all is well.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Say what this machine has to keep programs in, and let a probe try to get out of a cell.

    Each attempt is `refused`, `reached` or `unclear`.
    Exit codes: 0 programs are kept in; 1 something is missing, with how to get it.

    Example: `loopai sandbox doctor`
    """
    from loopai.sandbox import doctor as sandbox  # noqa: PLC0415 (kept from `loopai --help`)

    found = asyncio.run(sandbox.inspect())
    if as_json:
        output.print_json(msgspec.json.encode(found))
    elif not quiet:
        _print(found)
    if not found.fit:
        raise failure.Failure("the sandbox is not available: " + "; ".join(found.problems))


def _print(found: "doctor_.Inspection") -> None:
    drawn = output.stdout()
    rows = [(layer.name, layer.state, layer.detail) for layer in found.layers]
    drawn.print(output.grid(("layer", "", "what there is"), rows))
    if found.attempts:
        tried = [(each.language, each.name, each.verdict) for each in found.attempts]
        drawn.print(output.grid(("", "a program tried to", ""), tried))
    if found.fit:
        drawn.print(f"Programs are kept in. The probe took {found.cold_ms:.0f} ms from nothing.")
