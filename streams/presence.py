"""Who is alive: every process shows itself in the `workers` bucket for as long as it serves."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from streams import codec, store, subjects, topology
from streams.connection import Connection
from streams.messages import Language, WorkerPresence


@contextlib.asynccontextmanager
async def shown(
    connection: Connection,
    *,
    pool: str,
    instance: str,
    slots: int = 0,
    languages: tuple[Language, ...] = (),
) -> AsyncIterator[None]:
    """Show this process as *instance* of *pool* while inside; enter it when it serves."""
    bucket = store.Bucket(connection, topology.WORKERS, codec.WORKER)
    key = subjects.worker_key(pool, instance)
    presence = WorkerPresence(
        pool=pool,
        instance=instance,
        host=socket.gethostname(),
        pid=os.getpid(),
        slots=slots,
        languages=languages,
        started_at=datetime.now(UTC),
    )

    async def refresh() -> None:
        while True:
            with contextlib.suppress(store.StoreUnavailable):  # the next refresh is near
                await bucket.put(key, presence)
            await asyncio.sleep(topology.PRESENCE_S)

    refreshing = asyncio.create_task(refresh())
    try:
        yield
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)
        with contextlib.suppress(store.StoreUnavailable):  # its TTL removes it as well
            await bucket.delete(key)
