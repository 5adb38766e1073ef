"""`python -m bench.flood ORDER`: keeps queues of executions full, and says how they go down.

A process of its own, so that publishing does not slow down whoever measures beside it. Messages go
straight to the bus. ORDER is JSON; each line of its output is a State.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Final

import msgspec
import uvloop

from bench import product
from streams import codec, connection, ids, subjects, topology
from streams.messages import ExecuteBatch, ExecuteItem, Lane

MORE: Final = 1.25
"""What is published at a time, above what must always wait."""
POLL_S: Final = 0.05
FULL_S_MAX: Final = 120.0
END_S_MAX: Final = 10.0
PUBLISH_S_MAX: Final = 30.0
PUBLISHES_MAX: Final = 128
DEADLINE_MS: Final = 3_600_000
INPUT: Final = msgspec.json.encode(product.INPUT)


class Queue(msgspec.Struct, frozen=True):
    """Where executions are to wait, in messages of *items* each."""

    lane: Lane
    tenant: str
    task: str
    items: int = topology.ITEMS_MAX
    executions: int = 100_000
    """That wait there at any time."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    nats_url: str
    queues: tuple[Queue, ...]


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Executions of each queue at a Unix time in s."""

    at: float
    waiting: tuple[int, ...]
    done: tuple[int, ...]
    full: bool


class Flood:
    """What another process keeps up while `running`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.states: list[State] = []
        self._process = process
        self._news = asyncio.Event()

    async def full(self) -> None:
        """Return when every queue holds what it should."""
        async with asyncio.timeout(FULL_S_MAX):
            while not (self.states and self.states[-1].full):
                self._check()
                self._news.clear()
                await self._news.wait()

    def between(self, began: float, ended: float) -> list[State]:
        """What was seen meanwhile, from two states up."""
        self._check()
        found = [each for each in self.states if began <= each.at <= ended]
        if len(found) < 2:
            raise RuntimeError("the flood was not seen")
        return found

    async def listen(self) -> None:
        """Read what the process says until it ends."""
        lines = self._process.stdout
        while lines is not None and (line := await lines.readline()):
            self.states.append(msgspec.json.decode(line, type=State))
            self._news.set()
        await self._process.wait()
        self._news.set()

    def _check(self) -> None:
        if self._process.returncode is not None:
            raise RuntimeError(f"the flood ended with {self._process.returncode}")


@contextlib.asynccontextmanager
async def running(order: Order) -> AsyncIterator[Flood]:
    """Another process that fulfils *order*; what waits at the end still waits."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.flood", msgspec.json.encode(order).decode()),
        stdout=asyncio.subprocess.PIPE,
    )
    flood = Flood(process)
    listening = asyncio.create_task(flood.listen())
    try:
        yield flood
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(END_S_MAX):
            await listening


def rates(states: Sequence[State]) -> list[float]:
    """Executions a second of each queue."""
    first, last = states[0], states[-1]
    seconds = last.at - first.at
    return [(new - old) / seconds for old, new in zip(first.done, last.done, strict=True)]


async def waiting(bus: connection.Connection, queues: Sequence[Queue]) -> list[int]:
    """Executions that wait in each of *queues*, or are run just now."""
    info = await bus.jetstream.stream_info(topology.EXECUTE.name, subjects_filter="loopai.v1.>")
    found = dict.fromkeys([(each.lane, each.tenant, each.task) for each in queues], 0)
    for subject, count in (info.state.subjects or {}).items():
        key = (subjects.lane(subject), *subjects.owner(subject))
        if key in found:
            found[key] += count
    return [found[each.lane, each.tenant, each.task] * each.items for each in queues]


async def _keep(order: Order) -> None:
    bus = await connection.connect(order.nats_url, name="loopai-bench-flood")
    left = [0] * len(order.queues)
    published = [0] * len(order.queues)
    while True:
        for number, queue in enumerate(order.queues):
            missing = int(queue.executions * MORE) - left[number]
            count = max(0, -(-missing // queue.items))
            await _publish(bus, queue, count)
            published[number] += count * queue.items
        left = await waiting(bus, order.queues)
        state = State(
            at=time.time(),
            waiting=tuple(left),
            done=tuple(all_ - now for all_, now in zip(published, left, strict=True)),
            full=all(now >= each.executions for now, each in zip(left, order.queues, strict=True)),
        )
        sys.stdout.write(f"{msgspec.json.encode(state).decode()}\n")
        sys.stdout.flush()
        await asyncio.sleep(POLL_S)


async def _publish(bus: connection.Connection, queue: Queue, count: int) -> None:
    subject = subjects.execute(queue.lane, queue.tenant, queue.task)
    payloads = _payloads(queue, count)

    async def send() -> None:
        for payload in payloads:
            word = await bus.acks.publish(subject, payload, {}, timeout_s=PUBLISH_S_MAX)
            if word.error is not None:
                raise RuntimeError(f"{subject}: {word.error.description}")

    async with asyncio.TaskGroup() as group:
        for _ in range(min(count, PUBLISHES_MAX)):
            group.create_task(send())


def _payloads(queue: Queue, count: int) -> Iterator[bytes]:
    for _ in range(count):
        now_ms = time.time_ns() // 10**6
        items = (
            ExecuteItem(id=each, input=INPUT, deadline_ms=now_ms + DEADLINE_MS)
            for each in ids.several(now_ms, queue.items)
        )
        yield codec.EXECUTE.encode(ExecuteBatch(items=tuple(items)))


if __name__ == "__main__":
    uvloop.run(_keep(msgspec.json.decode(sys.argv[1], type=Order)))
