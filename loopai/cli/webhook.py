"""`loopai webhook`: who is told of what."""

import asyncio
from datetime import datetime
from typing import Annotated, Final, get_args

import msgspec
import typer

from loopai.cli import api, completion, deliveries, document, failure, options, output, removal
from streams import messages

app = typer.Typer(help="Webhooks: events posted to a URL of yours.", no_args_is_help=True)
app.command()(deliveries.ping)
app.command("deliveries")(deliveries.list_deliveries)
app.command()(deliveries.redeliver)

PATH: Final = "/api/v1/webhooks"
EVENTS: Final = get_args(messages.WebhookEvent)

Id = deliveries.Id
Event = typer.Option("--event", metavar="EVENT", help=f"{', '.join(EVENTS)}. May be repeated.")
Task = typer.Option(
    "--task",
    metavar="TASK",
    help="Of this task only, by name or id.",
    autocompletion=completion.task_names,
)
Secret = Annotated[
    str | None,
    typer.Option(
        "--secret",
        metavar="SECRET|@FILE|-",
        help="What signs; made for you unless it is set. Others see it in `ps`: better a file.",
    ),
]


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as the API shows it; with its secret where that has just been set."""

    id: str
    url: str
    events: tuple[str, ...]
    task: str | None
    description: str
    enabled: bool
    disabled_reason: str
    created_at: datetime
    created_by: str
    updated_at: datetime
    secret: str = ""


class WebhookList(msgspec.Struct, frozen=True):
    webhooks: tuple[Webhook, ...]


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `POST /webhooks`."""

    url: str
    events: tuple[str, ...]
    task: str | None = None
    secret: str | None = None
    description: str = ""
    enabled: bool = True


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `PATCH /webhooks/{id}`; what is not set stays as it is."""

    url: str | msgspec.UnsetType = msgspec.UNSET
    events: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    task: str | msgspec.UnsetType | None = msgspec.UNSET
    secret: str | msgspec.UnsetType = msgspec.UNSET
    rotate_secret: bool = False
    description: str | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


@app.command()
def create(
    *,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="URL that is posted to.")],
    event: Annotated[list[str], Event],
    task: Annotated[str | None, Task] = None,
    secret: Secret = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    disabled: Annotated[bool, typer.Option("--disabled", help="Post nothing yet.")] = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Have events posted to a URL, and print the secret that signs them, this once.

    Example: `loopai webhook create https://example.com/loopai --event execution.failed --task spam`
    """
    body = NewWebhook(
        url=endpoint,
        events=_events(event),
        task=task,
        secret=_secret(secret),
        description=description,
        enabled=not disabled,
    )
    _print(asyncio.run(_post(url, PATH, msgspec.json.encode(body))), as_json=as_json)


@app.command("list")
def list_webhooks(url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False) -> None:
    """List the webhooks.

    Example: `loopai webhook list`
    """
    answer = asyncio.run(_get(url, PATH))
    if as_json:
        output.print_json(answer)
        return
    rows = [
        (each.url, ", ".join(each.events), each.task or "all", _state(each), each.id)
        for each in api.decode(answer, WebhookList).webhooks
    ]
    if rows:
        columns = ("posts to", "events", "task", "state", "id")
        output.stdout().print(output.grid(columns, rows))
    else:
        output.print_line("no webhooks yet; `loopai webhook create --help` says how to make one")


@app.command()
def show(
    webhook: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show a webhook, without its secret.

    Example: `loopai webhook show 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    _print(asyncio.run(_get(url, deliveries.path(webhook))), as_json=as_json)


@app.command()
def update(
    *,
    webhook: Id,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Post to another URL from now on.")
    ] = None,
    event: Annotated[list[str] | None, Event] = None,
    task: Annotated[str | None, Task] = None,
    all_tasks: Annotated[bool, typer.Option("--all-tasks", help="Of all tasks.")] = False,
    secret: Secret = None,
    rotate_secret: Annotated[
        bool, typer.Option("--rotate-secret", help="Make another; both sign for 24 hours.")
    ] = False,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Post to it, or nothing more.")
    ] = None,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Change a webhook; what is not given stays as it is.

    Example: `loopai webhook update 01890a5d-ac96-774b-bcce-b302099a8057 --rotate-secret`
    """
    if task is not None and all_tasks:
        raise typer.BadParameter("give --task or --all-tasks")
    new_secret = _secret(secret)
    change = Change(
        url=_or_unset(endpoint),
        events=_events(event) if event else msgspec.UNSET,
        task=None if all_tasks else _or_unset(task),
        secret=_or_unset(new_secret),
        rotate_secret=rotate_secret,
        description=_or_unset(description),
        enabled=msgspec.UNSET if enabled is None else enabled,
    )
    if change == Change():
        raise typer.BadParameter("give at least one thing to change; --help lists them")
    answer = asyncio.run(_patch(url, deliveries.path(webhook), msgspec.json.encode(change)))
    _print(answer, as_json=as_json)


@app.command()
def delete(webhook: Id, yes: removal.Yes = False, url: options.Url = options.URL_DEFAULT) -> None:
    """Delete a webhook with its history. What waits to be posted to it is dropped.

    Example: `loopai webhook delete 01890a5d-ac96-774b-bcce-b302099a8057 --yes`
    """
    removal.confirm(f"the webhook {webhook}", yes=yes)
    asyncio.run(removal.send(url, deliveries.path(webhook)))
    output.print_line(f"{webhook} is deleted")


def _events(names: list[str]) -> tuple[str, ...]:
    unknown = [name for name in names if name not in EVENTS]
    if unknown:
        said = f"{unknown[0]!r} is none of {', '.join(EVENTS)}"
        raise typer.BadParameter(said, param_hint="--event")
    return tuple(names)


def _secret(argument: str | None) -> str | None:
    """What *argument* stands for: itself, or the text of a file or of stdin."""
    if argument is None:
        return None
    try:
        return document.text(argument).decode().strip()
    except UnicodeDecodeError as error:
        raise failure.Failure(f"--secret is not UTF-8: {error.reason}") from error


def _or_unset(value: str | None) -> str | msgspec.UnsetType:
    return msgspec.UNSET if value is None else value


def _state(webhook: Webhook) -> str:
    if webhook.enabled:
        return "enabled"
    return f"disabled: {webhook.disabled_reason}".removesuffix(": ")


def _print(body: bytes, *, as_json: bool) -> None:
    if as_json:
        output.print_json(body)
        return
    found = api.decode(body, Webhook)
    rows = [
        ("id", found.id),
        ("posts to", found.url),
        ("events", ", ".join(found.events)),
        ("task", found.task or "all"),
        ("description", found.description),
        ("state", _state(found)),
        ("made", f"{output.time(found.created_at)} by {found.created_by}"),
        ("updated", output.time(found.updated_at)),
        ("secret", found.secret),
    ]
    output.stdout().print(output.grid(("", ""), [row for row in rows if row[1]]))
    if found.secret:
        output.stderr().print("The secret is not shown again.")


async def _get(url: str, path: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(path)


async def _post(url: str, path: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.post(path, body)


async def _patch(url: str, path: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.patch(path, body)
