"""`loopai rollout`: which version of a task answers, for how many, and the way back."""

import asyncio
from typing import Annotated, Final

import msgspec
import typer

from loopai.cli import api, options, output
from streams import messages

app = typer.Typer(help="Rollouts: which version of a task answers.", no_args_is_help=True)

LINES_MAX: Final = 20
"""Of the history, on a screen; `--json` has all of it."""

Version = Annotated[int, typer.Argument(min=1, metavar="VERSION", help="Version of the program.")]
VersionOrOff = Annotated[
    int | None, typer.Argument(min=1, metavar="[VERSION]", help="Version of the program.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Also a draft or a failed version; the history says so.")
]
Off = Annotated[bool, typer.Option("--off", help="End it.")]


class NewCanary(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    percent: float


class Change(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `PUT /tasks/{task}/rollout`."""

    canary: NewCanary | msgspec.UnsetType | None = msgspec.UNSET
    shadow: int | msgspec.UnsetType | None = msgspec.UNSET
    force: bool = False


@app.command()
def show(
    task: options.TaskName, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show which version answers, for how many, and what was changed by whom.

    Example: `loopai rollout show spam`
    """
    _print(asyncio.run(_get(url, task)), as_json=as_json)


@app.command()
def activate(
    task: options.TaskName,
    version: Version,
    force: Force = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Let a version answer from now on. A canary ends with it.

    Example: `loopai rollout activate spam 3`
    """
    body = msgspec.json.encode({"force": force})
    answer = asyncio.run(_post(url, api.task_path(task, "artifacts", version, "activate"), body))
    _print(answer, as_json=as_json)


@app.command()
def canary(
    *,
    task: options.TaskName,
    version: VersionOrOff = None,
    percent: Annotated[
        float | None,
        typer.Argument(metavar="[PERCENT]", help="Share that it answers: 0.01 to 100."),
    ] = None,
    off: Off = False,
    force: Force = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Let a version answer a share of the executions, or change the share.

    Example: `loopai rollout canary spam 4 5`
    """
    if off:
        if version is not None:
            raise typer.BadParameter("--off takes no VERSION and no PERCENT")
        _change(url, task, Change(canary=None), as_json=as_json)
        return
    if version is None or percent is None:
        raise typer.BadParameter("give VERSION and PERCENT, or --off")
    wanted = NewCanary(version=version, percent=percent)
    _change(url, task, Change(canary=wanted, force=force), as_json=as_json)


@app.command()
def shadow(
    *,
    task: options.TaskName,
    version: VersionOrOff = None,
    off: Off = False,
    force: Force = False,
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Have a version run beside what is answered; `loopai audit tail --shadow` shows what it gave.

    Example: `loopai rollout shadow spam 4`
    """
    if off == (version is not None):
        raise typer.BadParameter("give VERSION, or --off")
    _change(url, task, Change(shadow=version, force=force), as_json=as_json)


@app.command()
def promote(
    task: options.TaskName, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Make the canary the version that answers everybody.

    Example: `loopai rollout promote spam`
    """
    _print(asyncio.run(_post(url, api.task_path(task, "rollout", "promote"))), as_json=as_json)


@app.command()
def rollback(
    task: options.TaskName, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Go back to the version that was active before; again, to the one before that.

    Example: `loopai rollout rollback spam`
    """
    _print(asyncio.run(_post(url, api.task_path(task, "rollout", "rollback"))), as_json=as_json)


def _change(url: str, task: str, change: Change, *, as_json: bool) -> None:
    _print(asyncio.run(_put(url, task, msgspec.json.encode(change))), as_json=as_json)


def _print(body: bytes, *, as_json: bool) -> None:
    if as_json:
        output.print_json(body)
        return
    rollout = api.decode(body, messages.Rollout)
    shown = output.stdout()
    shown.print(output.grid(("", ""), _roles(rollout)))
    if not rollout.history:
        return
    lines = rollout.history[-LINES_MAX:]
    columns = ("when", "by", "what", "version#", "before#", "percent#", "")
    shown.print(output.grid(columns, map(_line, reversed(lines)), title="history, newest first"))


def _roles(rollout: messages.Rollout) -> list[tuple[str, str]]:
    return [
        ("active", _version(rollout.active)),
        ("canary", _canary(rollout.canary)),
        ("shadow", _version(rollout.shadow)),
    ]


def _canary(canary: messages.Canary | None) -> str:
    if canary is None:
        return "none"
    since = output.time(canary.started_at)
    return f"version {canary.version}, {canary.percent:g} %, since {since}"


def _line(change: messages.RolloutChange) -> tuple[str, ...]:
    return (
        output.time(change.at),
        change.by,
        change.action.replace("_", " "),
        str(change.version),
        "" if change.previous is None else str(change.previous),
        "" if change.percent is None else f"{change.percent:g}",
        "forced" if change.forced else "",
    )


def _version(number: int | None) -> str:
    return "none" if number is None else f"version {number}"


async def _get(url: str, task: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(api.task_path(task, "rollout"))


async def _put(url: str, task: str, body: bytes) -> bytes:
    async with api.Api(url) as client:
        return await client.put(api.task_path(task, "rollout"), body)


async def _post(url: str, path: str, body: bytes = b"") -> bytes:
    async with api.Api(url) as client:
        return await client.post(path, body)
