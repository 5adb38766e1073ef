"""Options that several commands share, spelled once."""

from typing import Annotated

import typer

from loopai.cli import completion

Url = Annotated[str, typer.Option("--url", envvar="LOOPAI_URL", help="Where the HTTP API is.")]
NatsUrl = Annotated[
    str, typer.Option("--nats-url", envvar="LOOPAI_NATS_URL", help="Where the bus is.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON only, for programs to read.")]
TaskName = Annotated[
    str,
    typer.Argument(
        metavar="TASK", help="Name or id of the task.", autocompletion=completion.task_names
    ),
]
Revision = Annotated[
    int | None,
    typer.Option("--if-match", min=0, metavar="REVISION", help="Only while it has this revision."),
]

URL_DEFAULT = completion.URL_DEFAULT
NATS_URL_DEFAULT = "nats://127.0.0.1:4222"
