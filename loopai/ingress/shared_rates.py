"""Counts of rates in a Redis that ingresses share. It never fails a caller, nor holds one up long.

Imported only where a Redis is configured: `limits` and the client take 20 MB and 0.3 s.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import redis
import structlog
from limits.aio.storage import RedisStorage
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from loopai import rate, settings
from loopai.catalog.cache import breaker

log = structlog.get_logger()

CONNECT_S: Final = 0.2
COMMAND_S: Final = 0.1
CONNECTIONS_MAX: Final = 16
"""Of one process; more calls wait for their turn."""
_FAILURES: Final = (redis.RedisError, OSError)


class SharedRates:
    """Sliding windows at *url* under *namespace*."""

    def __init__(self, url: str, *, namespace: str) -> None:
        self._shown_url = settings.redacted(url)
        self._pool = ConnectionPool.from_url(
            url,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=COMMAND_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=f"{namespace}:v1:rate",
            connection_pool=self._pool,  # type: ignore[arg-type]  # passed on, as documented
        )
        self._turn = asyncio.Semaphore(CONNECTIONS_MAX)
        self.breaker = breaker.Breaker()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["SharedRates"]:
        """Connections close on the way out."""
        try:
            yield self
        finally:
            await self._pool.aclose()

    async def take(self, key: str, of: rate.Rate, cost: int) -> tuple[bool, rate.Count] | None:
        """Whether *cost* was taken, and the count then; None where Redis does not answer."""
        async with self._turn:
            # Asked now: while this waited for its turn, those before it may have failed.
            if not self.breaker.admits(time.monotonic()):
                return None
            name = f"{key}:{of.amount}:{of.period_s}"
            try:
                async with asyncio.timeout(CONNECT_S + COMMAND_S):
                    taken = await self._storage.acquire_sliding_window_entry(
                        name, of.amount, of.period_s, cost
                    )
                    found = await self._storage.get_sliding_window(name, of.period_s)
            except _FAILURES as error:
                self._failed(error)
                return None
        if self.breaker.succeeded():
            log.info("redis counts rates again", url=self._shown_url)
        return taken, _count(of, *found)

    def _failed(self, error: Exception) -> None:
        if self.breaker.failed(time.monotonic()):
            log.warning(
                "redis does not answer: every ingress counts rates by itself",
                url=self._shown_url,
                reason=str(error) or type(error).__name__,
            )


def _count(
    of: rate.Rate, previous: int, previous_s: float, current: int, current_s: float
) -> rate.Count:
    """As Redis has it: a period begins with the first call in it, and is kept for another."""
    left_s = current_s - of.period_s if current_s else previous_s or of.period_s
    return rate.Count(previous, current, max(0.0, left_s))
