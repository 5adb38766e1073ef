"""Program texts through three layers: memory (L1), Redis if there is one (L2), the store (L3)."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from loopai import settings
from loopai.catalog.cache import memory
from loopai.catalog.stores import store as stores
from loopai.observe import caches
from streams import ending

if TYPE_CHECKING:  # its client is heavy, and not needed where there is no Redis
    from loopai.catalog.cache.shared import Shared

FILLS_MAX: Final = 64
"""Texts on their way to Redis, each of up to 1 MiB; more are left to the next reader."""


class ProgramCache:
    """Texts of *store* by digest. They never change, so nothing here is ever out of date.

    Whoever makes it closes it, before *shared*.
    """

    def __init__(
        self, store: stores.Texts, kept: memory.Memory, shared: "Shared | None" = None
    ) -> None:
        self._store = store
        self._memory = kept
        self._shared = shared
        self._flights: dict[str, asyncio.Task[str]] = {}
        self._fills: set[asyncio.Task[None]] = set()
        self._memory_reads = caches.Reads()
        self._store_reads = caches.Reads()

    async def get(self, name: str) -> str:
        """The text of digest *name*. StoreError when no layer has it intact.

        Those who miss the same text at the same time share one read.
        """
        started = time.perf_counter()
        found = self._memory.get(name)
        if found is not None:
            self._memory_reads.hit(started)
            return found
        self._memory_reads.missed(started)
        return await self._fetched(name)

    async def put(self, code: str) -> str:
        """Store *code* durably; its digest. Other processes find it in Redis from then on."""
        name = await self._store.put(code)
        self._memory.put(name, code)
        if self._shared is not None:
            await self._shared.put(name, code)
        return name

    async def close(self) -> None:
        """Give up what is under way; whoever waits for it is cancelled."""
        await ending.end(*self._flights.values(), *self._fills)

    def collector(self) -> caches.CacheCollector:
        """What the layers do, for Prometheus."""
        layers = {"memory": self._memory_reads, "store": self._store_reads}
        shared = self._shared
        if shared is not None:
            layers["redis"] = shared.reads
        return caches.CacheCollector(
            layers,
            held_bytes=lambda: self._memory.bytes,
            is_breaker_open=lambda: shared is not None and shared.breaker.is_open,
        )

    async def _fetched(self, name: str) -> str:
        flight = self._flights.get(name)
        if flight is None:
            flight = self._flights[name] = asyncio.create_task(self._fetch(name))
            flight.add_done_callback(functools.partial(self._landed, name))
        # A caller that goes away must not take the text from the others.
        return await asyncio.shield(flight)

    def _landed(self, name: str, flight: asyncio.Task[str]) -> None:
        del self._flights[name]
        if not flight.cancelled():
            flight.exception()  # told to those who wait; there may be none left

    async def _fetch(self, name: str) -> str:
        text = None
        if self._shared is not None:
            text = await self._shared.get(name)
        if text is None:
            text = await self._read(name)
            self._fill(name, text)
        self._memory.put(name, text)
        return text

    async def _read(self, name: str) -> str:
        started = time.perf_counter()
        try:
            text = await self._store.get(name)
        except stores.StoreError as error:
            self._store_reads.missed(started, error=not isinstance(error, stores.Missing))
            raise
        self._store_reads.hit(started)
        return text

    def _fill(self, name: str, text: str) -> None:
        """Give Redis what the store had, while the caller goes on."""
        if self._shared is None or len(self._fills) >= FILLS_MAX:
            return
        task = asyncio.create_task(self._shared.put(name, text))
        self._fills.add(task)
        task.add_done_callback(self._fills.discard)


@contextlib.asynccontextmanager
async def opened(
    known: settings.Settings, store: stores.Texts, shown: CollectorRegistry
) -> AsyncIterator[ProgramCache]:
    """The cache before *store* that *known* asks for, in *shown* while inside. StartupError."""
    async with contextlib.AsyncExitStack() as stack:
        shared = None
        if known.redis_url:
            from loopai.catalog.cache.shared import Shared  # noqa: PLC0415 (see above)

            made = Shared(known.redis_url, namespace=known.cache_namespace, ttl_s=known.cache_ttl_s)
            shared = await stack.enter_async_context(made.opened())
        cache = ProgramCache(store, memory.Memory(known.cache_bytes_max), shared)
        stack.push_async_callback(cache.close)
        collector = cache.collector()
        shown.register(collector)
        stack.callback(shown.unregister, collector)
        yield cache
