"""What every pool shares: start, presence, drain, and the one map from errors to ack/nak/term."""

import asyncio
import collections
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import msgspec
import structlog
from prometheus_client import CollectorRegistry

from loopai import errors
from loopai.observe import logs
from loopai.settings import Settings
from streams import (
    codec,
    connection,
    consumer,
    ending,
    presence,
    provision,
    publisher,
    replay,
    store,
    subjects,
    topology,
)
from streams.messages import Lane, Language
from workers import dead, metrics, slots

log = structlog.get_logger()

DRAIN_S: Final = 8.0
"""How long started work may take to end after SIGTERM; then it is given back."""
DELIVERY_BYTES: Final = 512
"""What a delivery costs its tenant beside its payload."""
NAK_S: Final = 1.0
"""First delay after an unforeseen error; it grows with every attempt …"""
RETRY_S_MAX: Final = 30.0
"""… up to this."""


class LeaseLost(Exception):  # noqa: N818 (it says what is the matter)
    """The broker has given the delivery to another worker: drop it, record nothing."""


class Later(Exception):  # noqa: N818 (it says what happens to the message)
    """Nothing is wrong with the delivery: it is handed back for so long."""

    def __init__(self, delay_s: float) -> None:
        super().__init__(f"in {delay_s:.1f} s")
        self.delay_s = delay_s


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Where a pool's work comes from, and how many deliveries of it one worker has in hand."""

    spec: topology.Consumer
    prefetch: int
    """Deliveries that it has taken and not settled: those that wait for a slot, too."""
    lane: Lane = "interactive"


async def _nothing(_within_s: float) -> None:
    """For a pool that does nothing besides its deliveries."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A runnable pool. `handle` returns when the delivery may be acknowledged."""

    name: str
    sources: tuple[Source, ...]
    limits: slots.Limits
    handle: Callable[[consumer.Delivery], Awaitable[None]]
    handle_s_max: float
    """Longest handling of one delivery; then it counts as failed."""
    languages: tuple[Language, ...] = ()
    rates: Callable[[], dict[str, float]] = dict
    """Executions recorded lately; see `WorkerPresence.rates`."""
    drain: Callable[[float], Awaitable[None]] = _nothing
    """Ends within so many seconds what the pool does besides; called while deliveries drain."""


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool is given to open itself with."""

    settings: Settings
    connection: connection.Connection
    instance: str
    registry: CollectorRegistry = msgspec.field(default_factory=CollectorRegistry)
    """Where a pool registers what it has to show."""


Open = Callable[[Host], AbstractAsyncContextManager[Pool]]


async def run(name: str, open_pool: Open, settings: Settings) -> int:
    """Run one pool until SIGTERM or SIGINT, then drain. The process's exit code."""
    instance = f"{name}-{secrets.token_hex(4)}"
    logs.configure(settings.log_level, process=instance)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    shown = metrics.registry()
    async with metrics.served(shown, settings.metrics_address):
        connected = await connection.connect(
            settings.nats_url, name=instance, role=name, proof=settings.nats_proof
        )
        try:
            missing = await provision.missing(connected, topology.topology())
            if missing:
                raise errors.StartupError(
                    f"the broker lacks {', '.join(missing)}; run `python -m streams apply` first"
                )
            host = Host(settings=settings, connection=connected, instance=instance, registry=shown)
            async with open_pool(host) as pool:
                await serve(host, pool, stop)
            log.info("worker stopped")
        finally:
            await connected.close()
    # A connection closed for good is not ours to mend: a supervisor starts a fresh process.
    return 0 if stop.is_set() else 1


async def serve(host: Host, pool: Pool, stop: asyncio.Event) -> None:
    """Work as *pool*, for all to see, until *stop* is set or the connection is closed for good."""
    worker = Worker(host.connection, pool)
    count = pool.limits.slots
    host.registry.register(
        metrics.WorkerCollector(
            pool.name, host.instance, count, lambda: worker.running, lambda: worker.waiting
        )
    )
    async with presence.shown(
        host.connection,
        pool=pool.name,
        instance=host.instance,
        slots=count,
        languages=pool.languages,
        running=worker.subjects,
        rates=pool.rates,
    ):
        log.info("worker started")
        await worker.run(stop)


class _Taken(msgspec.Struct, frozen=True, eq=False):
    """A delivery in hand, and how its source hears that it is settled."""

    delivery: consumer.Delivery
    release: Callable[[], None]


def _turn(lane: Lane, taken: _Taken) -> slots.Turn[_Taken]:
    delivery = taken.delivery
    try:
        tenant, task = subjects.owner(delivery.subject)
    except ValueError:
        tenant, task = "", delivery.subject  # nobody's: its handler says what is wrong with it
    # Not its subject, of which a task has one in each of its queues.
    key = f"{lane} {tenant} {task}"
    cost = len(delivery.payload) + DELIVERY_BYTES
    return slots.Turn(lane=lane, tenant=tenant, task=key, cost=cost, what=taken)


class Worker:
    """Takes deliveries of *pool* and settles each by what its handling came to."""

    def __init__(self, connected: connection.Connection, pool: Pool) -> None:
        self._connection = connected
        self._pool = pool
        self._slots: slots.Slots[_Taken] = slots.Slots(pool.limits)
        self._waiting: set[_Taken] = set()
        self._draining = False
        self._active: dict[asyncio.Task[None], slots.Turn[_Taken]] = {}
        self._again: asyncio.TimerHandle | None = None

    @property
    def running(self) -> int:
        """How many deliveries are being handled."""
        return len(self._active)

    def subjects(self) -> dict[str, int]:
        """How many of each subject are being handled."""
        return collections.Counter(turn.what.delivery.subject for turn in self._active.values())

    @property
    def waiting(self) -> int:
        """How many more are in hand and wait for a slot."""
        return len(self._waiting)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until *stop* is set or the connection is closed for good; then drain."""
        leases = asyncio.create_task(self._keep_leases())
        taking = [asyncio.create_task(self._take(source)) for source in self._pool.sources]
        ends = [asyncio.create_task(event.wait()) for event in (stop, self._connection.closed)]
        try:
            await asyncio.wait([leases, *taking, *ends], return_when=asyncio.FIRST_COMPLETED)
            for task in (leases, *taking):
                if task.done():
                    task.result()
        finally:
            self._draining = True
            await ending.end(*taking, *ends)
            await self._drain()
            await ending.end(leases)

    async def _take(self, source: Source) -> None:
        opened = consumer.Consumer(self._connection, source.spec, slots=source.prefetch)
        async with opened as taken:
            async for delivery in taken:
                mine = _Taken(delivery, taken.release)
                self._waiting.add(mine)
                self._slots.push(_turn(source.lane, mine), time.monotonic())
                self._begin()

    def _begin(self) -> None:
        """Hand free slots to those whose turn it is."""
        while not self._draining:
            turn = self._slots.take(time.monotonic())
            if turn is None:
                self._begin_later()
                return
            self._waiting.discard(turn.what)
            task = asyncio.create_task(self._settle(turn.what.delivery))
            self._active[task] = turn
            task.add_done_callback(self._ended)

    def _begin_later(self) -> None:
        """Look again in a while: time alone lets bulk begin, once interactive work is quiet."""
        if self._waiting and self._again is None:
            self._again = asyncio.get_running_loop().call_later(slots.INTERACTIVE_S, self._look)

    def _look(self) -> None:
        self._again = None
        self._begin()

    def _ended(self, task: asyncio.Task[None]) -> None:
        turn = self._active.pop(task)
        self._slots.release(turn, time.monotonic())
        turn.what.release()
        self._begin()

    async def _drain(self) -> None:
        # Beside each other: a supervisor waits for all of it, and not for long.
        await asyncio.gather(self._pool.drain(DRAIN_S), self._drain_deliveries())

    async def _drain_deliveries(self) -> None:
        # Nobody has begun on these: another worker can have them now rather than after ack_wait.
        waiting, self._waiting = self._waiting, set()
        for taken in waiting:
            await taken.delivery.nak(0)
        if not self._active:
            return
        _, late = await asyncio.wait(self._active, timeout=DRAIN_S)
        await ending.end(*late)

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(topology.PROGRESS_S)
            active = [turn.what for turn in self._active.values()]
            for taken in [*active, *self._waiting]:
                await taken.delivery.progress()

    async def _settle(self, delivery: consumer.Delivery) -> None:
        """The one map from what a handler raises to what becomes of the message."""
        try:
            await self._handle(delivery)
        except asyncio.CancelledError:
            # Only a drain cancels: the next worker should have it at once.
            await asyncio.shield(delivery.nak(0))
            raise
        except LeaseLost:
            log.warning("lease lost", stream=delivery.stream, sequence=delivery.sequence)
        except Later as later:
            await delivery.nak(later.delay_s)
        except codec.Undecodable as error:
            await self._bury(delivery, "undecodable", str(error))
        except errors.Rejected as error:
            await self._bury(delivery, "rejected", str(error))
        except _TRANSIENT as error:
            retry_after_s = getattr(error, "retry_after_s", NAK_S)
            await self._retry(delivery, str(error), retry_after_s)
        except Exception as error:
            log.exception("unexpected error", stream=delivery.stream, sequence=delivery.sequence)
            await self._retry(delivery, f"{type(error).__name__}: {error}", NAK_S)
        else:
            await delivery.ack()

    async def _handle(self, delivery: consumer.Delivery) -> None:
        # While it waited for a slot the broker may have given it to another worker.
        if not delivery.leased:
            raise LeaseLost
        async with asyncio.timeout(self._pool.handle_s_max):
            await self._pool.handle(delivery)

    async def _retry(self, delivery: consumer.Delivery, reason: str, delay_s: float) -> None:
        if delivery.is_last:
            await self._bury(delivery, "max_deliveries", reason)
            return
        log.info("delivery given back", sequence=delivery.sequence, reason=reason)
        await delivery.nak(min(delay_s * delivery.attempt, RETRY_S_MAX))

    async def _bury(self, delivery: consumer.Delivery, reason: dead.Reason, detail: str) -> None:
        # Whoever has it now may record it: it must not be dead as well.
        if not delivery.leased:
            log.warning("lease lost", stream=delivery.stream, sequence=delivery.sequence)
            return
        try:
            await dead.bury(self._connection, delivery, reason, detail)
        except _TRANSIENT as error:
            # Not in DEAD, so it must stay in its stream: the recorder moves it when it exhausts.
            log.warning("cannot bury", sequence=delivery.sequence, reason=str(error))
            await delivery.nak(NAK_S)
        else:
            await delivery.term(f"{reason}: {detail}")


_TRANSIENT = (
    errors.Transient,
    publisher.NotPublished,
    publisher.BacklogFull,
    replay.ReplayFailed,
    store.StoreUnavailable,
)
