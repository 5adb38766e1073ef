"""`loopai queues`: what waits, for which task, in which lane."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import msgspec
import typer

from loopai.cli import api, completion, options, output

if TYPE_CHECKING:
    from rich import table


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    task: str
    lane: str
    runtime: str | None = None
    queued: int
    running: int
    oldest_s: float | None = None
    rate: float = 0.0


class QueueList(msgspec.Struct, frozen=True):
    queues: tuple[Queue, ...]


def queues(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]",
            help="Name or id of a task; all without it.",
            autocompletion=completion.task_names,
        ),
    ] = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Show what is queued and running, by task and lane.

    With how old the oldest of it is, and how many executions a second were recorded in the last
    minute.

    Example: `loopai queues`
    """
    answer = asyncio.run(_get(url, task))
    if as_json:
        output.print_json(answer)
        return
    output.stdout().print(drawn(api.decode(answer, QueueList).queues))


def drawn(held: Sequence[Queue]) -> "table.Table | str":
    """*held*, each in a row."""
    if not held:
        return "nothing is queued, and nothing was recorded in the last minute"
    columns = ("task", "lane", "queued#", "running#", "oldest#", "per second#")
    return output.grid(columns, map(_row, held))


def _row(queue: Queue) -> tuple[str, ...]:
    return (
        queue.task,
        f"{queue.lane}, waits for {queue.runtime}" if queue.runtime else queue.lane,
        str(queue.queued),
        str(queue.running),
        "" if queue.oldest_s is None else f"{queue.oldest_s:.1f} s",
        f"{queue.rate:g}",
    )


async def _get(url: str, task: str | None) -> bytes:
    async with api.Api(url) as client:
        return await client.get(
            "/api/v1/queues" + (f"?task={quote(task, safe='')}" if task is not None else "")
        )
