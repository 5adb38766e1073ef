"""`loopai webhook ping|deliveries|redeliver`: what was posted to a webhook, and once more."""

import asyncio
from datetime import datetime
from typing import Annotated

import msgspec
import typer

from loopai.cli import api, options, output

Id = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the webhook, as `webhook list` shows it.")
]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    status_code: int | None
    error: str
    duration_ms: float


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One event for the webhook, and how often it was posted."""

    id: str
    type: str
    status: str
    created_at: datetime
    next_attempt_at: datetime | None
    attempts: tuple[Attempt, ...]


class DeliveryList(msgspec.Struct, frozen=True):
    deliveries: tuple[Delivery, ...]


class Sent(msgspec.Struct, frozen=True):
    id: str
    type: str


def path(webhook: str, *more: str) -> str:
    return "/".join(["/api/v1/webhooks", api.segment(webhook), *more])


def ping(
    webhook: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Post a test event; `loopai webhook deliveries` shows what came of it.

    Example: `loopai webhook ping 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    _send(url, path(webhook, "ping"), as_json=as_json)


def list_deliveries(
    webhook: Id, url: options.Url = options.URL_DEFAULT, as_json: options.AsJson = False
) -> None:
    """Show what was posted to a webhook, and what came of it. The latest comes first.

    Example: `loopai webhook deliveries 01890a5d-ac96-774b-bcce-b302099a8057`
    """
    answer = asyncio.run(_get(url, path(webhook, "deliveries")))
    if as_json:
        output.print_json(answer)
        return
    rows = [_row(each) for each in api.decode(answer, DeliveryList).deliveries]
    if rows:
        columns = ("event", "happened", "state", "attempts#", "last answer", "next", "id")
        output.stdout().print(output.grid(columns, rows))
    else:
        output.print_line("nothing was posted yet; `loopai webhook ping` posts a test event")


def redeliver(
    webhook: Id,
    delivery: Annotated[
        str, typer.Argument(metavar="DELIVERY", help="Its id, as `webhook deliveries` shows it.")
    ],
    url: options.Url = options.URL_DEFAULT,
    as_json: options.AsJson = False,
) -> None:
    """Post an event once more, with the same id.

    Example: `loopai webhook redeliver 01890a5d-ac96-774b-bcce-b302099a8057
    01890a5e-0e1c-7d0e-9a3f-5d1b6e7a8c9d`
    """
    place = path(webhook, "deliveries", api.segment(delivery), "redeliver")
    _send(url, place, as_json=as_json)


def _row(delivery: Delivery) -> tuple[str, ...]:
    last = delivery.attempts[-1] if delivery.attempts else None
    return (
        delivery.type,
        output.time(delivery.created_at),
        delivery.status,
        str(len(delivery.attempts)),
        "" if last is None else last.error or str(last.status_code or ""),
        "" if delivery.next_attempt_at is None else output.time(delivery.next_attempt_at),
        delivery.id,
    )


def _send(url: str, place: str, *, as_json: bool) -> None:
    answer = asyncio.run(_post(url, place))
    if as_json:
        output.print_json(answer)
        return
    sent = api.decode(answer, Sent)
    output.print_line(f"{sent.type} will be posted (delivery {sent.id})")


async def _get(url: str, place: str) -> bytes:
    async with api.Api(url) as client:
        return await client.get(place)


async def _post(url: str, place: str) -> bytes:
    async with api.Api(url) as client:
        return await client.post(place, b"")
