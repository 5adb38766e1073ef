"""Who is alive: every process shows itself in the `workers` bucket for as long as it serves."""

import asyncio
import contextlib
import heapq
import os
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from streams import codec, store, subjects, topology
from streams.connection import Connection
from streams.messages import Language, WorkerPresence

SUBJECTS_MAX: Final = 1_000
"""Of which a worker tells what it does: its presence is one small message."""

V = TypeVar("V", int, float)


@contextlib.asynccontextmanager
async def shown(
    connection: Connection,
    *,
    pool: str,
    instance: str,
    slots: int = 0,
    languages: tuple[Language, ...] = (),
    running: Callable[[], dict[str, int]] = dict,
    rates: Callable[[], dict[str, float]] = dict,
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
                busy = msgspec.structs.replace(
                    presence, running=_most(running()), rates=_most(rates())
                )
                await bucket.put(key, busy)
            await asyncio.sleep(topology.PRESENCE_S)

    refreshing = asyncio.create_task(refresh())
    try:
        yield
    finally:
        refreshing.cancel()
        await asyncio.gather(refreshing, return_exceptions=True)
        with contextlib.suppress(store.StoreUnavailable):  # its TTL removes it as well
            await bucket.delete(key)


def _most(counts: dict[str, V]) -> dict[str, V]:
    if len(counts) <= SUBJECTS_MAX:
        return counts
    return dict(heapq.nlargest(SUBJECTS_MAX, counts.items(), key=lambda item: item[1]))
