"""Whom a worker gives its slots to, of what it has in hand: deliveries of a real broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from streams import ids, publisher, subjects, topology
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import Lane
from tests import queue
from tests.wait import until
from workers import runtime, slots

OWN, SECOND = subjects.queues(*queue.UPPER)


class Held:
    """Handles what it is given until it is let go, by lane."""

    def __init__(self) -> None:
        self.began: list[tuple[int, int]] = []
        """Sequence and attempt."""
        self.let_go = {lane: asyncio.Event() for lane in topology.LANES}

    async def handle(self, delivery: Delivery) -> None:
        self.began.append((delivery.sequence, delivery.attempt))
        await self.let_go["bulk" if ".bulk." in delivery.subject else "interactive"].wait()


@contextlib.asynccontextmanager
async def _working(
    bus: Connection, held: Held, *sources: runtime.Source, **limits: int
) -> AsyncIterator[runtime.Worker]:
    pool = runtime.Pool(
        name="test",
        sources=sources,
        limits=slots.Limits(**limits),
        handle=held.handle,
        handle_s_max=60,
    )
    worker, stop = runtime.Worker(bus, pool), asyncio.Event()
    running = asyncio.create_task(worker.run(stop))
    try:
        yield worker
    finally:
        for lane in topology.LANES:
            held.let_go[lane].set()
        stop.set()
        await running


def _source(lane: Lane, place: tuple[int, int] = OWN) -> runtime.Source:
    return runtime.Source(spec=topology.executor(lane, *place), prefetch=32, lane=lane)


async def _publish(
    bus: Connection, number: int, lane: Lane = "interactive", place: tuple[int, int] = OWN
) -> None:
    for _ in range(number):
        subject = subjects.placed(lane, place, *queue.UPPER)
        await publisher.publish(bus, subject, b"x", message_id=ids.new())


async def test_a_task_in_two_queues_is_one_task(bus: Connection) -> None:
    """Its second queue gives it no further slots: others of its tenant have theirs."""
    held = Held()
    await _publish(bus, 4)
    await _publish(bus, 4, place=SECOND)
    sources = (_source("interactive"), _source("interactive", SECOND))

    async with _working(bus, held, *sources, slots=8, task_running_max=2) as worker:
        await until(lambda: worker.running + worker.waiting == 8)

        assert worker.running == 2


async def test_bulk_begins_when_interactive_work_has_been_quiet(bus: Connection) -> None:
    """Nothing comes and nothing ends at that moment: time alone gives bulk its slots."""
    held = Held()
    await _publish(bus, 1)

    async with _working(bus, held, _source("interactive"), _source("bulk"), slots=16) as worker:
        await until(lambda: worker.running == 1)
        await _publish(bus, 20, "bulk")
        await until(lambda: worker.running + worker.waiting == 21)
        assert worker.running == 2
        held.let_go["interactive"].set()

        await until(lambda: worker.running == 14)


async def test_what_was_lost_while_it_waited_for_a_slot_is_not_begun(bus: Connection) -> None:
    """The broker has given it out again: only that delivery is handled."""
    held = Held()
    spec = msgspec.structs.replace(queue.python(), ack_wait_s=0.1)
    await _publish(bus, 2)

    async with _working(bus, held, runtime.Source(spec=spec, prefetch=8), slots=1) as worker:
        await until(lambda: worker.waiting == 1)
        (lost,) = worker._waiting
        await until(lambda: not lost.delivery.leased)
        held.let_go["interactive"].set()
        await until(lambda: worker.running + worker.waiting == 0)

    assert (lost.delivery.sequence, 1) not in held.began
