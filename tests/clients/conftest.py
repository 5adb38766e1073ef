"""Both clients of Python behind one face, so that one test is of both."""

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from loopai_client import AsyncClient, Client


class Threaded:
    """A client that blocks, each call of it in a thread: awaited like the other one."""

    def __init__(self, within: object) -> None:
        self._within = within

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._within, name)
        if not callable(found):
            return Threaded(found)
        if inspect.isgeneratorfunction(found) or name == "events":
            return lambda *given, **named: _iterated(found(*given, **named))
        return lambda *given, **named: asyncio.to_thread(found, *given, **named)


async def _iterated(source: Iterator[Any]) -> AsyncIterator[Any]:
    while (found := await asyncio.to_thread(next, source, None)) is not None:
        yield found


@pytest.fixture(params=["async", "blocking"])
async def opened(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Any]]:
    """Opens clients, which are closed in the end."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(url: object, **given: Any) -> Any:
            if request.param == "async":
                return await stack.enter_async_context(AsyncClient(str(url), **given))
            return Threaded(stack.enter_context(Client(str(url), **given)))

        yield make
