"""Whoever waits for something on the bus hears of it: one subscription for all who wait alike.

What is heard says only where to look: it may not be stored yet, and what went by while the broker
was away is not heard at all. So who waits looks when it hears, and now and then without.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from loopai import errors
from streams import subjects, topology
from streams.connection import Connection

PAUSES_S: Final = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Between looks once something was heard: the stream has it a moment later."""

Names = Callable[[bytes], Sequence[str]]
"""What a message is about. msgspec.DecodeError."""


class _Named(msgspec.Struct):
    id: str


class _Records(msgspec.Struct):
    """Of a RecordBatch, what is needed here: the rest is passed over, not decoded."""

    records: list[_Named]


class _Dead(msgspec.Struct):
    execution_ids: list[str]


_records = msgspec.msgpack.Decoder(_Records)
_dead = msgspec.msgpack.Decoder(_Dead)


class Bell:
    """Rings for one who waits."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._pauses: Sequence[float] = ()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, within_s: float) -> None:
        """Return when it is time to look again: soon after something was heard, else in the end."""
        if self._rung.is_set():
            self._rung.clear()
            self._pauses = PAUSES_S
        if self._pauses:
            pause_s, *self._pauses = self._pauses
            await asyncio.sleep(min(pause_s, within_s))
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._rung.wait()


class _Channel:
    """One subscription, and who waits for what on it."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.bells: dict[str, set[Bell]] = {}
        self.subscription: Subscription | None = None

    async def heard(self, message: Msg) -> None:
        # Anybody who may publish may publish rubbish.
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            for name in self.names(message.data):
                for bell in self.bells.get(name, ()):
                    bell.ring()


class Hearing:
    """What is heard by one ingress process. Leaves nothing behind when nobody waits."""

    def __init__(self, connection: Connection, *, waiting_max: int) -> None:
        self._connection = connection
        self._waiting_max = waiting_max
        self._channels: dict[str, _Channel] = {}
        self._changing = asyncio.Lock()
        self.waiting = 0
        self.subscriptions = 0
        self.closed = False
        """Nobody is to wait any more: the process is about to end."""

    def close(self) -> None:
        """Let everybody look once more, and go: a client comes back to another process."""
        self.closed = True
        for channel in self._channels.values():
            for bells in channel.bells.values():
                for bell in bells:
                    bell.ring()

    @contextlib.asynccontextmanager
    async def execution(self, tenant: str, execution_id: str) -> AsyncIterator[Bell]:
        """Rings when *execution_id* may have ended. OVERLOADED."""
        async with self._opened(
            execution_id,
            (subjects.records(tenant, None), _of_records),
            (subjects.dead_tenant(tenant), _of_dead),
        ) as bell:
            yield bell

    @contextlib.asynccontextmanager
    async def operation(self, operation_id: str) -> AsyncIterator[Bell]:
        """Rings when *operation_id* may have changed. OVERLOADED."""
        subject = f"$KV.{topology.OPERATIONS.name}.{operation_id}"
        async with self._opened(operation_id, (subject, lambda _: (operation_id,))) as bell:
            yield bell

    @contextlib.asynccontextmanager
    async def _opened(self, name: str, *wanted: tuple[str, Names]) -> AsyncIterator[Bell]:
        if self.waiting >= self._waiting_max:
            raise errors.ApiError(
                "OVERLOADED",
                f"{self._waiting_max} callers wait here already; try again later",
                retry_after_s=1,
            )
        bell = Bell()
        self.waiting += 1
        try:
            for subject, names in wanted:
                await self._join(subject, names, name, bell)
            yield bell
        finally:
            self.waiting -= 1
            for subject, _ in wanted:
                await asyncio.shield(self._leave(subject, name, bell))

    async def _join(self, subject: str, names: Names, name: str, bell: Bell) -> None:
        async with self._changing:
            channel = self._channels.get(subject)
            if channel is None:
                channel = _Channel(names)
                channel.subscription = await self._connection.client.subscribe(
                    subject, cb=channel.heard, pending_msgs_limit=0, pending_bytes_limit=0
                )
                # Not before: who comes next must not find one that hears nothing.
                self._channels[subject] = channel
            channel.bells.setdefault(name, set()).add(bell)
            self.subscriptions = len(self._channels)

    async def _leave(self, subject: str, name: str, bell: Bell) -> None:
        async with self._changing:
            channel = self._channels.get(subject)
            if channel is None or name not in channel.bells:
                return  # it had not joined yet
            channel.bells[name].discard(bell)
            if not channel.bells[name]:
                del channel.bells[name]
            if not channel.bells:
                del self._channels[subject]
                if channel.subscription is not None and not self._connection.client.is_closed:
                    await channel.subscription.unsubscribe()
            self.subscriptions = len(self._channels)


def _of_records(payload: bytes) -> Sequence[str]:
    return [each.id for each in _records.decode(payload).records]


def _of_dead(payload: bytes) -> Sequence[str]:
    return _dead.decode(payload).execution_ids
