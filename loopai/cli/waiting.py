"""Wait for what goes on without us: how far it is on a terminal, nothing in a pipe."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Annotated, Final

import msgspec
import typer

from loopai.cli import api, failure, output
from streams import messages

STAGE_S: Final = 1.0
"""How long one look at an operation waits: that often its stage is shown."""
LOOK_S: Final = 20.0
"""How long one look at an execution waits, which has no stages: each counts against a rate."""
AGAIN_S: Final = 1.0
"""Pause before a stream of events that broke off is asked for again."""

UNDER_WAY: Final = frozenset({"queued", "running"})

Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Give up then; it goes on."),
]


class Standing(msgspec.Struct, frozen=True):
    """What executions and operations have in common."""

    id: str
    status: str
    stage: str = ""


class Event(msgspec.Struct, frozen=True):
    """A Server-Sent Event whose data are JSON."""

    kind: str
    data: bytes


@contextmanager
def goes_on(how: str) -> Iterator[None]:
    """Say *how* to go on where Ctrl-C ends what is done inside."""
    try:
        yield
    except asyncio.CancelledError:
        output.stderr().print(how, soft_wrap=True)
        raise


async def until_ended(
    client: api.Api,
    path: str,
    *,
    look_s: float,
    timeout_s: float | None,
    stage: Callable[[str], None],
) -> bytes:
    """What is at *path* once it has ended, or as it is after *timeout_s*."""
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = look_s if ends is None else min(look_s, ends - time.monotonic())
        body = await client.get(path, wait_s=max(0.0, left_s))
        found = api.decode(body, Standing)
        if found.status not in UNDER_WAY or left_s <= 0:
            return body
        stage(found.stage or found.status)


async def shown(
    client: api.Api, path: str, command: str, *, look_s: float, timeout_s: float | None
) -> bytes:
    """The same, seen from a terminal. *command* goes on with it after Ctrl-C. Failure in time."""
    with goes_on(f"it goes on; {command} waits again"), output.stderr().status("queued") as status:
        body = await until_ended(
            client, path, look_s=look_s, timeout_s=timeout_s, stage=status.update
        )
    found = api.decode(body, Standing)
    if found.status in UNDER_WAY:
        raise failure.Failure(
            f"still {found.status} after {timeout_s:g} s; it goes on, and {command} waits again"
        )
    return body


async def events(client: api.Api, path: str) -> AsyncGenerator[Event, None]:
    """What happens to *path* until its end. A stream that breaks off is asked for again."""
    last = ""
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        async with aclosing(client.lines(path, headers)) as lines:
            async for name, event in _parsed(lines):
                last = name or last
                if event.kind == "problem":
                    found = api.decode(event.data, messages.Problem)
                    raise failure.Failure(f"{found.code}: {found.message}")
                yield event
                if event.kind == "ended":
                    return
        await asyncio.sleep(AGAIN_S)


async def _parsed(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, Event]]:
    """Each event with its id (HTML, section 9.2.6), of servers that write data on one line."""
    fields: dict[str, str] = {}
    async for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield fields.get("id", ""), Event(fields.get("event", ""), fields["data"].encode())
            fields = {}
        else:
            fields = {}
