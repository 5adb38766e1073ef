"""`loopai top`: what waits, what runs and how fast, again and again."""

import asyncio
import itertools
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from loopai.cli import api, failure, health, options, output, queues

if TYPE_CHECKING:
    from rich.console import RenderableType


class Look(msgspec.Struct, frozen=True):
    """One line of `--json`: both answers as they came."""

    health: msgspec.Raw
    queues: msgspec.Raw


def top(
    url: options.Url = options.URL_DEFAULT,
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between looks.")] = 1.0,
    count: Annotated[int, typer.Option(min=0, help="End after so many looks; 0: Ctrl-C.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Show queues, rates and workers, anew every second. Ctrl-C ends it.

    Example: `loopai top`
    """
    looks = itertools.repeat(None) if count == 0 else itertools.repeat(None, count)
    work = _print_lines(url, every, looks) if as_json else _draw(url, every, looks)
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        return  # that is how it ends


async def _print_lines(url: str, every_s: float, looks: "itertools.repeat[None]") -> None:
    async with api.Api(url) as client:
        for number, _ in enumerate(looks):
            if number:
                await asyncio.sleep(every_s)
            output.print_line(msgspec.json.encode(await _look(client)).decode())


async def _draw(url: str, every_s: float, looks: "itertools.repeat[None]") -> None:
    from rich import live  # noqa: PLC0415 (kept from `loopai --help`)

    shown = live.Live(console=output.stdout(), auto_refresh=False)
    async with api.Api(url) as client:
        with shown:
            for number, _ in enumerate(looks):
                if number:
                    await asyncio.sleep(every_s)
                shown.update(await _drawn(client, url, anew=number > 0), refresh=True)


async def _drawn(client: api.Api, url: str, *, anew: bool) -> "RenderableType":
    """What one look shows. Failure where the first one gets no answer."""
    from rich import console  # noqa: PLC0415 (as above)

    try:
        look = await _look(client)
    except failure.Failure as error:
        if not anew:
            raise
        return f"{error}\n(asking on; Ctrl-C ends)"
    found = api.decode(bytes(look.health), health.Health)
    held = api.decode(bytes(look.queues), queues.QueueList).queues
    workers = ", ".join(f"{number} {pool}" for pool, number in found.workers.items())
    rate = sum(each.rate for each in held)
    queued = sum(each.queued for each in held)
    running = sum(each.running for each in held)
    return console.Group(
        f"{url}  {found.status}, version {found.version}; {workers}",
        f"{rate:g} executions a second, {running} messages running, {queued} queued",
        queues.drawn(held),
    )


async def _look(client: api.Api) -> Look:
    told, held = await asyncio.gather(client.get("/health"), client.get("/api/v1/queues"))
    return Look(msgspec.Raw(told), msgspec.Raw(held))
