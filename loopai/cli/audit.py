"""`loopai audit`: what ran, read from the bus as it was recorded."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from loopai import views
from loopai.cli import completion, failure, moment, options, output, record
from streams import messages, subjects

app = typer.Typer(help="The audit log: every execution, in order.", no_args_is_help=True)


@app.command()
def tail(
    *,
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="[TASK]",
            help="Name of a task; all without it.",
            autocompletion=completion.task_names,
        ),
    ] = None,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="`30s`, `10m`, `2h`, `1d`, or an ISO 8601 time.")
    ] = "10m",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as more is run.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after this many executions.")
    ] = None,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="What shadow versions gave, which nobody was answered.")
    ] = False,
    tenant: Annotated[str, typer.Option(metavar="TENANT", help="Whose executions.")] = "default",
    nats_url: options.NatsUrl = options.NATS_URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Print recorded executions, oldest first, one a line.

    Example: `loopai audit tail spam --since 1h --follow`
    """
    try:
        start = moment.parse(since, datetime.now(UTC))
    except ValueError as error:
        raise typer.BadParameter(f"{since!r}: {error}", param_hint="--since") from error
    if task is not None and not subjects.is_name(task):
        raise failure.Failure(f"{task!r} is no name of a task")
    if not subjects.is_name(tenant):
        raise failure.Failure(f"{tenant!r} is no name of a tenant")
    reading = _tail(
        nats_url, tenant, task, start, follow=follow, limit=limit, shadow=shadow, as_json=as_json
    )
    asyncio.run(reading)


@app.command()
def get(
    execution: Annotated[str, typer.Argument(metavar="ID", help="Id of the execution.")],
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Print the record of one execution, as `loopai execution show` does.

    Example: `loopai audit get 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    record.show(url, execution, as_json=as_json)


async def _tail(
    url: str,
    tenant: str,
    task: str | None,
    since: datetime,
    *,
    follow: bool,
    limit: int | None,
    shadow: bool,
    as_json: bool,
) -> None:
    from loopai.cli import bus  # noqa: PLC0415 (kept from `loopai --help`)
    from streams import replay  # noqa: PLC0415 (the same)

    printed = 0
    try:
        async with bus.connected(url, name="loopai-audit", role="auditor") as connected:
            async for each in replay.records(
                connected, tenant=tenant, task=task, since=since, follow=follow, shadow=shadow
            ):
                output.print_line(
                    msgspec.json.encode(views.past(each)).decode() if as_json else _text(each)
                )
                printed += 1
                if printed == limit:
                    break
    except replay.ReplayFailed as error:
        raise failure.Failure(str(error)) from error


def _text(of: messages.ExecutionRecord) -> str:
    result = of.error.message if of.error else (of.output or b"").decode()
    return (
        f"{of.executed_at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}  {of.task}  "
        f"v{of.version or '-'}  {of.status}  {of.latency_ms.total:.2f} ms  "
        f"{of.id}  {result}"
    )
