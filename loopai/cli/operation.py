"""`loopai operation`: the making of a program, looked up by its id."""

import asyncio
from contextlib import aclosing
from datetime import UTC
from typing import Annotated

import typer

from loopai.cli import api, failure, generation, options, output, waiting
from streams import messages

app = typer.Typer(
    help="Operations: how far the making of a program is, kept for a week.", no_args_is_help=True
)

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the operation, as `task generate` gives it.")
]


@app.command()
def show(
    operation: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show an operation as it is now.

    Example: `loopai operation show 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    _print(asyncio.run(_get(url, operation)), as_json=as_json)


@app.command()
def wait(
    operation: Id,
    timeout: waiting.Timeout = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Wait for the end of an operation and show it.

    Exit code 1 when it failed, or has not ended in time.

    Example: `loopai operation wait 01890a5d-ac96-774b-bcce-b302099a8057 --timeout 60`
    """
    body = asyncio.run(_wait(url, operation, timeout))
    _print(body, as_json=as_json)
    _require_success(body)


@app.command()
def follow(
    operation: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Follow an operation: a line at each of its stages, until its end.

    Exit code 1 when it failed.

    Example: `loopai operation follow 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    asyncio.run(_follow(url, operation, as_json=as_json))


def _path(operation: str) -> str:
    return f"/api/v1/operations/{api.segment(operation)}"


async def _get(url: str, operation: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(_path(operation))


async def _wait(url: str, operation: str, timeout_s: float | None) -> bytes:
    command = f"loopai operation wait {operation}"
    async with api.Api(url) as client:
        return await waiting.shown(
            client, _path(operation), command, look_s=waiting.STAGE_S, timeout_s=timeout_s
        )


async def _follow(url: str, operation: str, *, as_json: bool) -> None:
    last = b""
    async with (
        api.Api(url) as client,
        aclosing(waiting.events(client, f"{_path(operation)}/events")) as events,
    ):
        with waiting.goes_on(f"it goes on; loopai operation follow {operation} follows it again"):
            async for event in events:
                output.print_line(event.data.decode() if as_json else _line(event.data))
                last = event.data
    _require_success(last)


def _line(body: bytes) -> str:
    told = api.decode(body, messages.Operation)
    parts = (f"{told.updated_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", told.status, told.stage)
    return "  ".join(filter(None, (*parts, told.message)))


def _print(body: bytes, *, as_json: bool) -> None:
    if as_json:
        output.print_json(body)
        return
    found = api.decode(body, messages.Operation)
    rows = [
        ("id", found.id),
        ("task", found.task),
        ("status", found.status),
        ("stage", found.stage),
        ("version", "" if found.version is None else str(found.version)),
        ("active", "yes" if found.activated else "no"),
        ("message", found.message),
        ("error", "" if found.error is None else generation.why_failed(found)),
        ("created", output.time(found.created_at)),
        ("updated", output.time(found.updated_at)),
    ]
    output.stdout().print(output.grid(("", ""), [row for row in rows if row[1]]))


def _require_success(body: bytes) -> None:
    found = api.decode(body, messages.Operation)
    if found.status == "failed":
        raise failure.Failure(generation.why_failed(found))
