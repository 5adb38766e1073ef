"""Windows of items that come one by one."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any, Final

import msgspec

from loopai_client.windows import Window

Items = AsyncIterable[Mapping[str, Any]] | Iterable[Mapping[str, Any]]
LINGER_S: Final = 0.05
"""A window is sent when no item has come for so long: a slow source is not waited for."""


async def windows(items: Items, size: int) -> AsyncIterator[list[msgspec.Raw]]:
    """*items* in windows of *size* at most."""
    window = Window(size)
    if isinstance(items, Iterable):
        for item in items:
            window.add(item)
            if window.full:
                yield window.take()
    else:
        source = aiter(items)
        coming: asyncio.Future[Mapping[str, Any]] = asyncio.ensure_future(_next(source))
        try:
            while True:
                linger_s = LINGER_S if window.holds else None
                done, _ = await asyncio.wait({coming}, timeout=linger_s)
                if done:
                    try:
                        window.add(coming.result())
                    except StopAsyncIteration:
                        break
                    coming = asyncio.ensure_future(_next(source))
                if window.full or not done:
                    yield window.take()
        finally:
            coming.cancel()
    if window.holds:
        yield window.take()


async def _next(source: AsyncIterator[Mapping[str, Any]]) -> Mapping[str, Any]:
    return await anext(source)
