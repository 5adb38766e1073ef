"""The syncer pool: keeps the store of its site as the registry says. One for each site."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from loopai.catalog import catalog, exchange, sync
from loopai.catalog.stores import store as stores
from streams import codec, ending, store, topology
from streams.messages import SiteState
from workers import runtime, slots

NAME: Final = "syncer"
SHOWN_S: Final = 0.1
"""Between two states at least: a site that begins with nothing makes thousands of steps."""


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool. StartupError when the store cannot be used."""
    site = host.settings.site
    async with contextlib.AsyncExitStack() as stack:
        own = await stack.enter_async_context(stores.opened(host.settings.store))
        await stack.enter_async_context(exchange.served(host.connection, own, site))
        # Without a cache: what lies in the store is what matters.
        texts = exchange.Exchanged(own, host.connection)
        known = catalog.Catalog(host.connection, own, texts)
        await stack.enter_async_context(known.opened())
        following = sync.Sync(known, texts, own, site=site)
        known.on_change.append(following.note)
        await stack.enter_async_context(_running(host, following))
        yield runtime.Pool(
            name=NAME, sources=(), limits=slots.Limits(slots=1), handle=_nothing, handle_s_max=1.0
        )


@contextlib.asynccontextmanager
async def _running(host: runtime.Host, following: sync.Sync) -> AsyncIterator[None]:
    """Follow, and show how far, while inside."""
    bucket = store.Bucket(host.connection, topology.SITES, codec.SITE)
    shown = SyncCollector(following.state())
    stepped = asyncio.Event()

    async def show() -> None:
        while True:
            stepped.clear()
            shown.state = following.state()
            with contextlib.suppress(store.StoreUnavailable):  # the next one is near
                await bucket.put(host.settings.site, shown.state)
            await asyncio.sleep(SHOWN_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(topology.PRESENCE_S - SHOWN_S):
                    await stepped.wait()

    host.registry.register(shown)
    tasks = [asyncio.create_task(following.run(stepped.set)), asyncio.create_task(show())]
    try:
        yield
    finally:
        await ending.end(*tasks)
        host.registry.unregister(shown)
        with contextlib.suppress(store.StoreUnavailable):  # its TTL removes it as well
            await bucket.delete(host.settings.site)


async def _nothing(_delivery: object) -> None:
    """It has no deliveries."""


class SyncCollector(Collector):
    """How far the site is. Read by another thread, so it has a state of its own."""

    def __init__(self, state: SiteState) -> None:
        self.state = state

    def collect(self) -> Iterable[Metric]:
        """Called by the server's thread."""
        state = self.state
        for name, meaning, value in (
            (
                "lag_seconds",
                "Age of the oldest change that the site has not followed.",
                state.lag_s,
            ),
            ("missing", "Versions whose text or place is not right yet.", state.missing),
            ("versions", "Versions in the registry.", state.versions),
        ):
            yield GaugeMetricFamily(f"loopai_sync_{name}", meaning, value)
        yield CounterMetricFamily(
            "loopai_sync_conflicts", "Versions that had another digest here.", state.conflicts
        )
