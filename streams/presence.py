"""Who is alive: every process shows itself in the `workers` bucket for as long as it serves."""

import asyncio
import contextlib
import heapq
import itertools
import os
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from streams import codec, ending, store, subjects, topology
from streams.connection import Connection
from streams.messages import Language, WorkerPresence

NEEDED: Final = ("executor", "generator", "recorder", "notifier")
"""Pools without one of each of which something is accepted and not served: of the last, webhooks.
"""
BYTES_MAX: Final = 32 * topology.KIB
"""Of the subjects for which a worker tells how many it runs, and at what rate: its presence is one
small message, and the bucket holds 256 of them at least."""
_NUMBER_BYTES: Final = 16
"""What a subject takes beside its name."""

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
        await ending.end(refreshing)
        with contextlib.suppress(store.StoreUnavailable):  # its TTL removes it as well
            await bucket.delete(key)


def _most(counts: dict[str, V]) -> dict[str, V]:
    """Those of *counts* with most that `BYTES_MAX` holds."""
    most = heapq.nlargest(BYTES_MAX // _NUMBER_BYTES, counts.items(), key=lambda item: item[1])
    ends = itertools.accumulate(len(subject) + _NUMBER_BYTES for subject, _ in most)
    return dict(each for each, end in zip(most, ends, strict=True) if end <= BYTES_MAX)
