"""`loopai artifact`: the versions of a task's program."""

import asyncio
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, generation, options, output
from streams import messages

app = typer.Typer(
    help="Artifacts: versions of a task's program; `task upload` and `task generate` make them.",
    no_args_is_help=True,
)

Version = Annotated[int, typer.Argument(min=1, metavar="VERSION", help="Version of the program.")]


class ArtifactList(msgspec.Struct, frozen=True):
    artifacts: tuple[messages.ProgramArtifact, ...]


@app.command("list")
def list_artifacts(
    task: options.TaskName, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """List the versions of a task's program.

    Example: `loopai artifact list spam`
    """
    answer = asyncio.run(_get(url, api.task_path(task, "artifacts")))
    if as_json:
        output.print_json(answer)
        return
    rows = [_row(each) for each in api.decode(answer, ArtifactList).artifacts]
    if rows:
        columns = ("version#", "status", "language", "engine", "confidence#", "made", "by")
        output.stdout().print(output.grid(columns, rows))
    else:
        output.print_line(f"no versions yet; `loopai task generate {task}` makes one")


@app.command()
def show(
    task: options.TaskName,
    version: Version,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Show a version: what it is, and how it did on examples it did not see.

    Example: `loopai artifact show spam 3`
    """
    answer = asyncio.run(_get(url, api.task_path(task, "artifacts", version)))
    if as_json:
        output.print_json(answer)
        return
    found = api.decode(answer, messages.ProgramArtifact)
    shown = output.stdout()
    generation.show(found, shown)
    rows = [
        ("id", found.id),
        ("digest", found.digest),
        ("status", f"{found.status}: {found.status_reason}".removesuffix(": ")),
        ("engine", found.engine),
        ("isolation", found.isolation),
        ("made", f"{output.time(found.created_at)} by {found.created_by}"),
        ("deployed", "" if found.deployed_at is None else output.time(found.deployed_at)),
    ]
    shown.print(output.grid(("", ""), [row for row in rows if row[1]]))


@app.command()
def program(
    task: options.TaskName, version: Version, url: options.Url = options.URL_DEFAULT
) -> None:
    """Print the text of a version, as it was stored.

    Example: `loopai artifact program spam 3 > spam.py`
    """
    path = api.task_path(task, "artifacts", version, "program")
    output.print_bytes(asyncio.run(_get(url, path)))


def _row(artifact: messages.ProgramArtifact) -> tuple[str, ...]:
    confidence = artifact.confidence_score
    return (
        str(artifact.version),
        artifact.status,
        artifact.language,
        artifact.engine,
        "" if confidence is None else f"{confidence:.3f}",
        output.time(artifact.created_at),
        artifact.created_by,
    )


async def _get(url: str, path: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(path)
