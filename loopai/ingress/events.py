"""Server-Sent Events (HTML, section 9.2): answers that go on until what they tell of has ended."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from loopai import errors
from loopai.ingress import accept, leaving, problems
from streams import ending
from streams.messages import Problem

MEDIA_TYPE: Final = "text/event-stream"
OTHERS: Final = ("application/json", "application/x-ndjson")
"""What the same is answered as otherwise."""
KEEP_ALIVE_S: Final = 15.0
"""Silence after which a comment is sent, so that no proxy takes the connection for dead."""
KEEP_ALIVE: Final = b":\n\n"
RETRY: Final = b"retry: 1000\n\n"
"""Milliseconds after which a browser that lost the connection comes back."""
LAST_S: Final = 3_600.0
"""How long one answer lasts: who still waits then comes again by itself."""
UNREAD_S: Final = 60.0
"""A client that takes nothing for so long is gone."""
HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather events until it has a buffer full
]

_encode = msgspec.json.Encoder().encode
Events = AsyncGenerator[bytes, None]


def wanted(request: Request) -> bool:
    """Whether the caller asks for events, by name, and for nothing else rather."""
    accepted = ",".join(request.headers.getlist("accept"))
    wish = accept.quality(accepted, MEDIA_TYPE, named=True)
    return wish > 0 and all(accept.quality(accepted, each) <= wish for each in OTHERS)


def event(kind: str, data: object, event_id: str | None = None) -> bytes:
    """One event. JSON has no line breaks of its own, so one line of data holds it."""
    name = b"" if event_id is None else b"id: %s\n" % event_id.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (name, kind.encode(), _encode(data))


def last_id(request: Request) -> str | None:
    """The last event that the client has had, where it comes back."""
    return request.headers.get("last-event-id")


def nothing_more() -> Response:
    """Tells a browser not to come back: without it, it would ask again for ever."""
    return Response(status_code=204)


class EventStream(Response):
    """Sends what *events* yield until they end, the client leaves, or `LAST_S` is over."""

    def __init__(self, events: Events) -> None:
        super().__init__()
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with contextlib.aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS]})
            if scope["method"] == "HEAD":
                await send(body(b"", more=False))
                return
            giving = asyncio.create_task(self._give(send))
            gone = asyncio.create_task(leaving.left(receive))
            try:
                await asyncio.wait({giving, gone}, return_when=asyncio.FIRST_COMPLETED)
                if giving.done():
                    giving.result()
            finally:
                await ending.end(giving, gone)

    async def _give(self, send: Send) -> None:
        ends = time.monotonic() + LAST_S
        await send(body(RETRY, more=True))
        with contextlib.suppress(TimeoutError):
            async for each in self._events:
                async with asyncio.timeout(UNREAD_S):
                    await send(body(each, more=True))
                if time.monotonic() > ends:
                    break
            await send(body(b"", more=False))


async def patient(events: Events) -> Events:
    """*events*; what goes wrong on the way is the last of them."""
    try:
        async with contextlib.aclosing(events):
            async for each in events:
                yield each
    except (errors.ApiError, *problems.TRANSLATED) as error:
        told = problems.translate(error)
        yield event("problem", Problem(code=told.code, message=told.detail))


async def keep_alive(send: Send) -> None:
    """Send a comment now and then, until it is cancelled."""
    while True:
        await asyncio.sleep(KEEP_ALIVE_S)
        await send(body(KEEP_ALIVE, more=True))


def body(part: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": more}
