"""A caller who waits may leave: what would go on for nobody ends, and its place is another's."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from streams import ending

T = TypeVar("T")


async def unless_left(request: Request, waiting: Coroutine[None, None, T]) -> T:
    """What *waiting* gives, once the body of *request* is read. ClientDisconnect ends it."""
    working, leaving = asyncio.create_task(waiting), asyncio.create_task(left(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        await ending.end(working, leaving)


async def left(receive: Receive) -> None:
    """Return when the caller has left."""
    with contextlib.suppress(ClientDisconnect):
        while (await receive())["type"] != "http.disconnect":
            pass
