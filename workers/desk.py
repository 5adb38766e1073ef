"""Who has the event loop for long work: one at a time, by fair turns.

A worker's loop is what busy tenants compete for: it makes a record of each execution, 2 µs each.
Without turns all that are at it share it by how many deliveries they have, and a small one waits
at each of its ten steps for a part of every large one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from streams import fair


class Desk:
    """One seat. Those that wait for it have it by start-time fair queuing, tenants by weight."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._waiting: fair.FairQueue[str, asyncio.Future[None]] = fair.FairQueue(weights)
        self._is_taken = False

    @contextlib.asynccontextmanager
    async def seat(self, tenant: str, task: str, cost: int) -> AsyncIterator[None]:
        """Have it while inside; *cost* is what it takes of the tenant's share."""
        if self._is_taken:
            await self._wait(tenant, task, cost)
        self._is_taken = True
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, tenant: str, task: str, cost: int) -> None:
        called = asyncio.get_running_loop().create_future()
        self._waiting.push(tenant, task, called, cost)
        try:
            await called
        except asyncio.CancelledError:
            if not called.cancelled():
                self._leave()  # called and cancelled at once: it is the next one's
            raise

    def _leave(self) -> None:
        """Hand it on; it stays taken in between, so that nobody sits down who has not waited."""
        while self._waiting:
            called = self._waiting.take()
            if not called.done():
                called.set_result(None)
                return
        self._is_taken = False
