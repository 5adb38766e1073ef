"""`loopai demo`: the main job on real data, start to end, with the numbers it yields."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from loopai.cli import labelled, options


def demo(
    *,
    data: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV or TSV; without it, breast-cancer diagnoses."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="What to predict; the last one if not set.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Predict from this column only, as text.")
    ] = None,
    examples: Annotated[
        int | None, typer.Option(min=1, help="Rows to learn from: 200, or half of a small file.")
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Which rows they are, and the program.")
    ] = 0,
    accuracy_target: Annotated[
        float, typer.Option(min=0, max=1, help="Share of right answers that the program needs.")
    ] = 0.9,
    sync: Annotated[
        Literal["always", "default"],
        typer.Option(help="Whether the bus writes through to the disk before it answers."),
    ] = "always",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running afterwards, until Ctrl-C.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Turn labelled rows into a program and run it on all other rows, on this machine.

    Starts everything in a temporary folder, generates a program from some of the rows, executes it
    on every other row through the API, counts the audit records, and cleans up. It fails when there
    are not exactly as many records as executions.

    Example: `loopai demo --data messages.tsv --label Label --text SMS --examples 1000`
    """
    from loopai.cli import showcase  # noqa: PLC0415 (it loads the stack; `--help` need not wait)

    choice = labelled.Choice(label=label, text=text, examples=examples, seed=seed)
    plan = showcase.Plan(
        data=data,
        choice=choice,
        accuracy_target=accuracy_target,
        sync=sync,
        keep=keep,
        as_json=as_json,
    )
    showcase.show(plan)
