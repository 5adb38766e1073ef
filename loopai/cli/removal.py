"""`loopai task delete`, and the question before anything is deleted."""

import asyncio
import sys
from typing import Annotated

import typer

from loopai.cli import api, failure, options, output

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def delete(
    *,
    task: options.TaskName,
    yes: Yes = False,
    revision: options.Revision = None,
    url: options.Url = options.URL_DEFAULT,
) -> None:
    """Delete a task with its versions and its rollout. What was recorded of it stays.

    Example: `loopai task delete spam --yes`
    """
    confirm(f"the task {task} with all its versions", yes=yes)
    asyncio.run(send(url, api.task_path(task), revision))
    output.print_line(f"{task} is deleted")


def confirm(what: str, *, yes: bool) -> None:
    """Ask whether to delete *what*; Usage where nobody is there to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise failure.Usage(f"this deletes {what}; say --yes where nobody can be asked")
    if not typer.confirm(f"Delete {what}?", err=True):
        raise failure.Failure("nothing is deleted")


async def send(url: str, path: str, revision: int | None = None) -> None:
    async with api.Api(url) as client:
        await client.delete(path, revision=revision)
