"""L2: texts in a Redis that processes share. It never fails a caller, and never holds one up long.

Imported only where a Redis is configured: its client takes 20 MB and 0.2 s.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeVar, cast

import redis
import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from loopai import errors, settings
from loopai.catalog.cache import breaker
from loopai.observe import caches
from streams import ending

log = structlog.get_logger()

CONNECT_S: Final = 0.2
COMMAND_S: Final = 0.1
CONNECTIONS_MAX: Final = 16
"""Of one process, each with one command at a time; more commands wait for their turn."""
TEXT_BYTES_MAX: Final = 2 * settings.MIB
"""Of one text, and of what is read where one should be. Programs have 1 MiB at most."""

_FAILURES: Final = (redis.RedisError, OSError)

T = TypeVar("T")


class Unasked(Exception):  # noqa: N818 (it says what did not happen)
    """The breaker is open: Redis was not asked."""


class Shared:
    """Texts at *url* under *namespace*, each for *ttl_s*."""

    def __init__(self, url: str, *, namespace: str, ttl_s: int) -> None:
        self._shown_url = settings.redacted(url)
        try:
            # Without the client's own retries: asking the store is quicker than asking twice.
            pool = ConnectionPool.from_url(
                url,
                socket_connect_timeout=CONNECT_S,
                socket_timeout=COMMAND_S,
                retry=Retry(NoBackoff(), 0),
            )
        except (ValueError, TypeError) as error:
            raise errors.StartupError(f"LOOPAI_REDIS_URL={self._shown_url!r}: {error}") from error
        self._redis = Redis.from_pool(pool)
        self._prefix = f"{namespace}:v1:program:"
        self._ttl_s = ttl_s
        self._turn = asyncio.Semaphore(CONNECTIONS_MAX)
        self.breaker = breaker.Breaker()
        self.reads = caches.Reads()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Shared"]:
        """Connections close on the way out. One that cannot be made is told of, and no more."""
        greeting = asyncio.create_task(self._greet())
        try:
            yield self
        finally:
            await ending.end(greeting)
            await self._redis.aclose()

    async def get(self, digest: str) -> str | None:
        """The text, checked against its digest; None where Redis has none or does not answer."""
        key, started = self._prefix + digest, time.perf_counter()
        try:
            # A range, not the value: whatever lies there, no more than this is taken in.
            answer = await self._ask(lambda: self._redis.getrange(key, 0, TEXT_BYTES_MAX))
        except Unasked:
            return None
        except _FAILURES:
            self.reads.missed(started, error=True)
            return None
        found = cast("bytes", answer)  # the client is not told to decode
        if found and hashlib.sha256(found).hexdigest() == digest:
            self.reads.hit(started)
            return found.decode()
        self.reads.missed(started)
        if found:
            log.warning("redis holds another text than its key says", key=key)
            with contextlib.suppress(Unasked, *_FAILURES):
                await self._ask(lambda: self._redis.delete(key))
        return None

    async def put(self, digest: str, text: str) -> None:
        """Keep *text* there, if Redis takes it."""
        encoded = text.encode()
        if len(encoded) > TEXT_BYTES_MAX:
            return
        with contextlib.suppress(Unasked, *_FAILURES):
            await self._ask(lambda: self._redis.set(self._prefix + digest, encoded, ex=self._ttl_s))

    async def _greet(self) -> None:
        """Whoever reads the log finds a wrong address there before the first text is missed."""
        with contextlib.suppress(Unasked, *_FAILURES):
            await self._ask(self._redis.ping, insist=True)

    async def _ask(self, command: Callable[[], Awaitable[T]], *, insist: bool = False) -> T:
        """What *command* answers. Unasked or one of `_FAILURES` otherwise."""
        async with self._turn:
            # Asked now: while this waited for its turn, those before it may have failed.
            if not self.breaker.admits(time.monotonic()):
                raise Unasked
            try:
                # The client bounds each wait; this bounds a peer that answers drop by drop.
                async with asyncio.timeout(CONNECT_S + COMMAND_S):
                    answer = await command()
            except _FAILURES as error:
                self._failed(error, at_once=insist)
                raise
        if self.breaker.succeeded():
            log.info("redis answers again", url=self._shown_url)
        return answer

    def _failed(self, error: Exception, *, at_once: bool) -> None:
        now = time.monotonic()
        if self.breaker.open(now) if at_once else self.breaker.failed(now):
            log.warning(
                "redis does not answer: going on without it",
                url=self._shown_url,
                reason=str(error) or type(error).__name__,
            )
