"""The notifier pool: posts to webhooks what happens, until they have taken it (ADR 0024)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from loopai.webhooks import schedule, subscriptions, transport
from streams import ending, topology
from workers import courier, feeds, metrics, runtime, slots

NAME: Final = "notifier"
SLOTS: Final = 64
"""Posts at once."""
PREFETCH: Final = 256
"""More than slots: what has to wait for its endpoint is given back at once."""
HANDLE_S_MAX: Final = 60.0
"""Three times the longest post, for the bus to answer."""


@contextlib.asynccontextmanager
async def opened(
    host: runtime.Host, *, delays_s: Sequence[float] = schedule.DELAYS_S
) -> AsyncIterator[runtime.Pool]:
    """The pool; it needs the bus, and a way to the endpoints."""
    allowed = host.settings.webhook_networks
    counts = metrics.WebhookCounts()
    collector = metrics.WebhookCollector(counts)
    async with contextlib.AsyncExitStack() as stack:
        known = feeds.Known(host.connection)
        stack.push_async_callback(known.stop)
        await known.start()
        poster = await stack.enter_async_context(transport.Poster(allowed))
        kept = subscriptions.Subscriptions(host.connection)
        posting = courier.Courier(known, kept, poster, counts, allowed=allowed, delays_s=delays_s)
        running = [
            asyncio.create_task(feeds.Feed(host.connection, known, each, counts.drop).run())
            for each in feeds.SOURCES
        ]
        stack.push_async_callback(ending.end, *running)
        host.registry.register(collector)
        stack.callback(host.registry.unregister, collector)
        yield runtime.Pool(
            name=NAME,
            sources=(runtime.Source(spec=topology.NOTIFIER, prefetch=PREFETCH),),
            limits=slots.Limits(slots=SLOTS),
            handle=posting.handle,
            handle_s_max=HANDLE_S_MAX,
        )
