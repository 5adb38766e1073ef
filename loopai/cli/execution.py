"""`loopai execution`: one execution, wherever it is."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, failure, options, output, record, run, waiting

app = typer.Typer(
    help="Executions: look them up, wait for them, cancel them.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.")]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An execution as its events tell it."""

    id: str
    status: str
    version: int | None = None
    latency_ms: float | None = None
    executed_at: datetime | None = None


@app.command()
def show(
    execution: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show an execution: how it ended, with its input, or that it is queued.

    Example: `loopai execution show 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    record.show(url, execution, as_json=as_json)


@app.command()
def wait(
    execution: Id,
    timeout: waiting.Timeout = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Wait for the end of an execution and print its output, as `loopai run` does.

    Exit code 1 when it failed, or has not ended in time.

    Example: `loopai execution wait 01890a5d-ac96-774b-bcce-b302099a8057 --timeout 60`
    """
    run.finish(asyncio.run(_wait(url, execution, timeout)), as_json=as_json)


@app.command()
def follow(
    execution: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Follow an execution: a line when it is queued, a line when it has ended.

    Exit code 1 when it failed.

    Example: `loopai execution follow 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    asyncio.run(_follow(url, execution, as_json=as_json))


@app.command()
def cancel(
    execution: Id,
    wait_s: Annotated[
        float,
        typer.Option("--wait", min=0, max=300, metavar="SECONDS", help="Wait so long for its end."),
    ] = 0.0,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Cancel an execution that is queued or running.

    Exit code 1 when it has ended already.

    Example: `loopai execution cancel 01890a5d-ac96-774b-bcce-b302099a8057 --wait 10`
    """
    body = asyncio.run(_cancel(url, execution, wait_s))
    if as_json:
        output.print_json(body)
    else:
        output.print_line(_line(body))


async def _wait(url: str, execution: str, timeout_s: float | None) -> bytes:
    path, command = record.path(execution), f"loopai execution wait {execution}"
    async with api.Api(url) as client:
        return await waiting.shown(
            client, path, command, look_s=waiting.LOOK_S, timeout_s=timeout_s
        )


async def _follow(url: str, execution: str, *, as_json: bool) -> None:
    path, status = f"{record.path(execution)}/events", ""
    async with api.Api(url) as client, aclosing(waiting.events(client, path)) as events:
        with waiting.goes_on(f"it goes on; loopai execution follow {execution} follows it again"):
            async for event in events:
                output.print_line(event.data.decode() if as_json else _line(event.data))
                status = api.decode(event.data, Told).status
    if status != "success":
        raise failure.Failure(f"the program ended with {status} (execution {execution})")


async def _cancel(url: str, execution: str, wait_s: float) -> bytes:
    async with api.Api(url) as client:
        return await client.delete(record.path(execution), wait_s=wait_s)


def _line(body: bytes) -> str:
    told = api.decode(body, Told)
    parts = [told.status, told.id]
    if told.executed_at is not None:
        parts.insert(0, f"{told.executed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
    if told.version is not None:
        parts.append(f"v{told.version}")
    if told.latency_ms is not None:
        parts.append(f"{told.latency_ms:.2f} ms")
    return "  ".join(parts)
