"""A KV bucket held in memory and kept current by watch: reads cost nothing and lag 2-3 ms."""

import asyncio
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog

from streams import codec, ending, messages, store, topology
from streams.connection import Connection

log = structlog.get_logger()

M = TypeVar("M", bound=messages.Message)

SETTLE_TIMEOUT_S = 1.0


class Mirror(Generic[M]):
    """The bucket of *spec* by key. Start with `start`, which returns when it is complete.

    Keys that ran out leave with the next change: where that matters, `heard_at` tells.
    """

    def __init__(
        self,
        connection: Connection,
        spec: topology.Bucket,
        value: codec.Codec[M],
        *,
        on_change: Callable[[store.Change[M]], None] | None = None,
    ) -> None:
        self._bucket = store.Bucket(connection, spec, value)
        self._ttl_s = spec.ttl_s
        self._on_change = on_change
        self._revision = 0
        self._moved = asyncio.Condition()
        self._complete = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._asking = asyncio.Lock()
        self._next_settle: asyncio.Task[None] | None = None
        self._settles: set[asyncio.Task[None]] = set()
        self.entries: dict[str, store.Entry[M]] = {}
        self.heard_at: dict[str, float] = {}
        """When a key was last set, by `time.monotonic`: what a TTL is measured from."""

    async def start(self) -> None:
        """Watch until `stop`. StoreUnavailable when the bucket cannot be read."""
        self._task = asyncio.create_task(self._follow())
        complete = asyncio.create_task(self._complete.wait())
        await asyncio.wait({self._task, complete}, return_when=asyncio.FIRST_COMPLETED)
        complete.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        await ending.end(*self._settles, *([self._task] if self._task else []))

    async def settle(self) -> None:
        """Wait until everything written before this call is seen; 1 s at most.

        For the rare reader who misses something that a colleague may have written just now. Many
        at once share the question: one is on its way at a time, whoever else comes waits for the
        next.
        """
        if self._next_settle is None:
            self._next_settle = asyncio.create_task(self._settle())
            self._settles.add(self._next_settle)
            self._next_settle.add_done_callback(self._settled)
        await asyncio.shield(self._next_settle)

    async def _settle(self) -> None:
        async with self._asking:
            # The answer may be from before whoever comes from now on: they wait for the next.
            self._next_settle = None
            target = await self._bucket.last_revision()
        await self.reach(target)

    def _settled(self, settle: asyncio.Task[None]) -> None:
        self._settles.discard(settle)
        if not settle.cancelled():
            settle.exception()  # told to those who wait; there may be none left

    async def reach(self, target: int) -> None:
        """Wait until revision *target* is seen, such as one just written; 1 s at most."""
        try:
            async with asyncio.timeout(SETTLE_TIMEOUT_S), self._moved:
                await self._moved.wait_for(lambda: self._revision >= target)
        except TimeoutError:
            return

    async def _follow(self) -> None:
        async for change in self._bucket.watch():
            if change is None:
                self._complete.set()
                continue
            self._forget(change.key)
            self._forget_what_ran_out()
            if change.value is not None:
                self.entries[change.key] = store.Entry(change.value, change.revision)
                self.heard_at[change.key] = time.monotonic()
            if self._on_change is not None:
                try:
                    self._on_change(change)
                except Exception:
                    # One odd key must not end the watch: memory would grow old unseen.
                    log.exception("change not understood", key=change.key)
            async with self._moved:
                self._revision = change.revision
                self._moved.notify_all()

    def _forget(self, key: str) -> None:
        self.entries.pop(key, None)
        self.heard_at.pop(key, None)

    def _forget_what_ran_out(self) -> None:
        """The broker says nothing of a key that runs out. Whoever was heard of last is last."""
        ended = time.monotonic() - self._ttl_s
        while self._ttl_s and self.heard_at:
            key = next(iter(self.heard_at))
            if self.heard_at[key] > ended:
                return
            self._forget(key)
