"""What one execution costs as tasks, workers, ingress processes, inputs and the backlog grow.

Cost is CPU time, user and system, of all processes of the stack by /proc until nothing is left to
do, for each execution that 64 connections asked for; the table has its median over rounds, and
which processes it was of. Each round measures all cases of a table one after another, beginning
with another each time.

Requests for one task travel together (ADR 0003), so what an execution costs depends on how many
callers its task has at a time. Tasks are therefore called in two ways: 256 requests in a row for
each, so that messages hold as many as with one task and only the number of tasks differs; and each
request for a task at random, so that at last every message is of one. Each task has a program of
its own, and each program a cell of its own, all warm.

The backlog waits in the bulk lane of another task, in the same stream, in messages of 256. The
broker is told to deliver nothing of that lane, so all of it waits until the measurement is over.
"""

import asyncio
import contextlib
import datetime as dt
import re
import resource
import statistics
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec

from bench import product, report, usage, wrk
from streams import codec, connection, ids, publisher, subjects, topology
from streams.messages import ExecuteBatch, ExecuteItem

ROUNDS = 5
ROUNDS_ELSE = 3
"""Where there is no target."""
SECONDS = 1
CONNECTIONS = 64
ROW = 256
"""Of requests for one task: one message holds no more."""
RISE_MAX = 0.2
"""What issue 4 allows from 1 to 1,000 tasks, and from an empty to a full backlog."""

TASKS: Final = (1, 10, 100, 1_000)
PROCESSES: Final = (1, 2, 4)
INPUT_BYTES: Final = (100, 1_000, 10_000, 100_000)
BACKLOG: Final = (0, 10_000, 100_000, 1_000_000)

CELL_BYTES = 18_000_000
"""Memory of a warm cell, with what its host keeps for it."""
CELL_FILES = 10
"""Descriptors of one in its host."""
SPARE_BYTES = 3_000_000_000
SPARE_FILES = 500
CELLS_MORE = 8
"""That may be warm beside those of the tasks: of the stack's first one."""
WARM_UP_AT_ONCE = 8
WARM_UP_S_MAX = 300.0
DEADLINE_MS = 3_600_000
REQUEST_S_MAX = 5.0
INPUT = msgspec.json.encode(product.INPUT)
PUBLISHES_MAX = 32
HELD = "held"
"""The task that the backlog is of."""

Table = Literal[
    "tasks, in rows", "tasks, at random", "workers", "ingress processes", "input", "backlog"
]
TITLES: Final[Mapping[Table, str]] = {
    "tasks, in rows": "tasks, 256 requests in a row for each",
    "tasks, at random": "tasks, each request for another at random",
    "workers": "workers",
    "ingress processes": "ingress processes, 64 connections for each",
    "input": "bytes of input",
    "backlog": "executions that wait in the bulk lane",
}
TARGETS: Final[frozenset[Table]] = frozenset({"tasks, in rows", "tasks, at random", "backlog"})


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One case in one round."""

    rate: float
    executions: int
    cpu: usage.Usage
    items: float = 1.0
    """Of one message, in the mean."""
    failed: int = 0

    def cost_s(self, kind: str | None = None) -> float:
        """CPU time of an execution, of processes of *kind* or of all."""
        kinds = usage.KINDS if kind is None else (kind,)
        return sum(self.cpu[each].total_s for each in kinds) / max(self.executions, 1)


Samples = Mapping[tuple[Table, int], Sequence[Sample]]
"""One a round, by table and what is on its axis."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A load, and the stack that bears it."""

    stack: product.Product
    connections: int = CONNECTIONS
    arguments: Mapping[str, float] = {}
    """Of the script of wrk."""


class Point(Case, frozen=True, kw_only=True):
    """A case at one point of an axis."""

    table: Table
    value: int


def measure() -> report.Report:
    """Measure all; takes about four minutes, one of them to start a thousand cells."""
    wrk.find()
    samples, notes = asyncio.run(_measure())
    return tabulate(samples, notes)


async def _measure() -> tuple[Samples, list[str]]:
    samples: dict[tuple[Table, int], list[Sample]] = {}
    how = (
        f"{ROUNDS} rounds of {SECONDS} s for each case, {ROUNDS_ELSE} where there is no target; "
        "the broker has its default sync."
    )
    notes = [how, await _measure_tasks(samples)]
    await _measure_processes(samples)
    await _measure_one(samples)
    return samples, notes


async def _measure_tasks(samples: dict[tuple[Table, int], list[Sample]]) -> str:
    """Measure against the number of tasks; returns what was ready for it.

    Each number has a stack of its own: warm cells cost something even while nobody calls them.
    """
    room = cells_max(*_available()) - sum(TASKS[:-1])
    points: list[Point] = []
    async with contextlib.AsyncExitStack() as stack:
        for count in TASKS:
            warm = min(count, max(1, room))
            opened = await stack.enter_async_context(_with_tasks(count, warm))
            points += [
                Point(table=table, value=count, stack=opened, arguments={"tasks": warm, **row})
                for table, row in _WAYS.items()
            ]
        await _rounds(points, samples, ROUNDS)
    if warm == TASKS[-1]:
        return f"All {warm:,} tasks had a warm cell."
    return (
        f"Of {TASKS[-1]:,} tasks {warm:,} were called: memory or descriptors were there for no "
        "more warm cells."
    )


@contextlib.asynccontextmanager
async def _with_tasks(count: int, warm: int) -> AsyncIterator[product.Product]:
    """A stack with *count* tasks, of which *warm* have a warm cell."""
    environment = {
        "LOOPAI_CELLS_MAX": f"{warm + CELLS_MORE}",
        "LOOPAI_CELLS_BYTES_MAX": f"{warm * CELL_BYTES + SPARE_BYTES}",
        # Cells start one after another, while all callers wait.
        "LOOPAI_TIMEOUT_MS": f"{WARM_UP_S_MAX * 1000:.0f}",
    }
    async with product.opened("default", environment=environment) as stack:
        names = [f"{product.TASK}-{number}" for number in range(count)]
        await product.create_tasks(stack, names)
        await warm_up(stack, names[:warm])
        yield stack


_WAYS: Final[Mapping[Table, Mapping[str, float]]] = {
    "tasks, in rows": {"row": ROW},
    "tasks, at random": {},
}


def cells_max(memory_bytes: int, files: int) -> int:
    """How many warm cells of one worker fit into so much, and leave something for the rest."""
    by_memory = (memory_bytes - SPARE_BYTES) // CELL_BYTES
    return max(1, min(by_memory, (files - SPARE_FILES) // CELL_FILES))


def _available() -> tuple[int, int]:
    """Bytes of memory that are free or can be, and how many files a process may have open."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    memory_bytes = int(found[1]) * 1024 if found else 0
    return memory_bytes, resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def warm_up(stack: product.Product, names: Sequence[str]) -> None:
    gate = asyncio.Semaphore(WARM_UP_AT_ONCE)

    async def call(name: str) -> None:
        async with gate:
            answer = await stack.http.post(
                f"/api/v1/tasks/{name}/execute",
                json={"input": product.INPUT},
                timeout=WARM_UP_S_MAX,
            )
        if answer.json().get("status") != "success":
            raise RuntimeError(answer.text)

    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(call(name))


async def _measure_processes(samples: dict[tuple[Table, int], list[Sample]]) -> None:
    """Measure against workers and ingress processes: stacks of their own, one at work at a time."""
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(product.opened("default"))
        cases = [
            Point(table="workers", value=1, stack=one),
            Point(table="ingress processes", value=1, stack=one),
        ]
        for count in PROCESSES[1:]:
            more = await stack.enter_async_context(product.opened("default", workers=count))
            cases.append(Point(table="workers", value=count, stack=more))
        for count in PROCESSES[1:]:
            more = await stack.enter_async_context(product.opened("default", ingress=count))
            case = Point(
                table="ingress processes",
                value=count,
                stack=more,
                connections=count * CONNECTIONS,
            )
            cases.append(case)
        await _rounds(cases, samples, ROUNDS_ELSE)


async def _measure_one(samples: dict[tuple[Table, int], list[Sample]]) -> None:
    """Measure against inputs and the backlog, on one stack."""
    async with product.opened("default") as stack:
        sizes = [
            Point(table="input", value=size, stack=stack, arguments={"bytes": size})
            for size in INPUT_BYTES
        ]
        await _rounds(sizes, samples, ROUNDS_ELSE)
        async with backlog(stack) as held:
            await _warm(stack)
            for _ in range(ROUNDS):
                # In this order, which is also that of filling it.
                await held.empty()
                for count in BACKLOG:
                    await held.fill(count)
                    case = Point(table="backlog", value=count, stack=stack)
                    await _add(case, samples, seed=1)


async def _rounds(
    cases: Sequence[Point], samples: dict[tuple[Table, int], list[Sample]], count: int
) -> None:
    for each in cases:
        samples.setdefault((each.table, each.value), [])
    for stack in {id(each.stack): each.stack for each in cases}.values():
        await _warm(stack)
    for number in range(count):
        first = number * len(cases) // count
        for each in (*cases[first:], *cases[:first]):
            await _add(each, samples, seed=number)


async def _warm(stack: product.Product) -> None:
    await wrk.run(f"{stack.url}{product.EXECUTE}", CONNECTIONS, SECONDS)


async def _add(case: Point, samples: dict[tuple[Table, int], list[Sample]], seed: int) -> None:
    samples.setdefault((case.table, case.value), []).append(await sample(case, seed))


async def sample(case: Case, seed: int = 1, seconds: int = SECONDS) -> Sample:
    """Load the stack of *case* and tell what it took."""
    # A row begins elsewhere each time, so that all tasks have their turn.
    first = seed * 211 if "row" in case.arguments else seed
    messages = await product.messages(case.stack)
    before = usage.taken(case.stack)
    load = await wrk.run(
        f"{case.stack.url}{product.EXECUTE}",
        case.connections,
        seconds,
        **{**case.arguments, "seed": first},
    )
    await product.drained(case.stack)
    used = usage.between(before, usage.taken(case.stack))
    messages = await product.messages(case.stack) - messages
    # Each connection had one on its way when wrk stopped, which is run all the same.
    executions = load.requests + case.connections
    return Sample(
        rate=load.rate,
        executions=executions,
        cpu=used,
        items=executions / max(messages, 1),
        failed=load.refused + load.broken,
    )


class Backlog:
    """Executions that wait in the bulk lane of the task HELD while `backlog` is open."""

    def __init__(self, bus: connection.Connection) -> None:
        self._bus = bus
        self._count = 0
        self._published = 0
        self._subject = subjects.execute("bulk", "default", HELD)
        self._stored = subjects.queued_task("bulk", "default", HELD)

    async def fill(self, count: int) -> None:
        """Let *count* wait, not fewer than do."""
        gate = asyncio.Semaphore(PUBLISHES_MAX)
        full = _encoded(topology.ITEMS_MAX)

        async def publish(payload: bytes) -> None:
            self._published += 1
            name = f"{HELD}-{self._published}"
            async with gate:
                await publisher.publish(self._bus, self._subject, payload, message_id=name)

        async with asyncio.TaskGroup() as group:
            while self._count < count:
                part = min(topology.ITEMS_MAX, count - self._count)
                group.create_task(publish(full if part == topology.ITEMS_MAX else _encoded(part)))
                self._count += part

    async def empty(self) -> None:
        await self._bus.jetstream.purge_stream(topology.EXECUTE.name, subject=self._stored)
        self._count = 0


@contextlib.asynccontextmanager
async def backlog(stack: product.Product) -> AsyncIterator[Backlog]:
    """A backlog, empty; the broker delivers nothing of the bulk lane until it is closed."""
    consumer = topology.executor("bulk", *subjects.queue("default", HELD))
    subject = f"$JS.API.CONSUMER.PAUSE.{consumer.stream}.{consumer.durable}"

    async def pause(until: str) -> bool:
        request = msgspec.json.encode({"pause_until": until} if until else {})
        answer = await stack.bus.client.request(subject, request, timeout=REQUEST_S_MAX)
        return msgspec.json.decode(answer.data, type=_Paused).paused

    until = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    if not await pause(until.isoformat()):
        raise RuntimeError("the broker did not stop the bulk lane")
    held = Backlog(stack.bus)
    yield held
    await held.empty()
    await pause("")


class _Paused(msgspec.Struct):
    paused: bool = False


def _encoded(count: int) -> bytes:
    """A message of *count*. That ids come again in another does not matter: nobody runs them."""
    deadline_ms = time.time_ns() // 1_000_000 + DEADLINE_MS
    items = (ExecuteItem(id=ids.new(), input=INPUT, deadline_ms=deadline_ms) for _ in range(count))
    return codec.EXECUTE.encode(ExecuteBatch(items=tuple(items)))


def tabulate(samples: Samples, notes: Sequence[str] = ()) -> report.Report:
    """The table, the picture, and whether the cost stays within its targets."""
    tables = list(dict.fromkeys(table for table, _ in samples))
    missed = [
        f"{table}: cost rises by {rise(samples, table):.0%} to {_last(samples, table):,}, "
        f"target < {RISE_MAX:.0%}"
        for table in tables
        if table in TARGETS and rise(samples, table) >= RISE_MAX
    ]
    return report.Report(
        title="cost of an execution",
        columns=(
            "against",
            "of them",
            "CPU",
            "times first",
            *(f"… {kind}" for kind in usage.KINDS),
            "items a message",
            "a second",
            "holds",
        ),
        rows=[_row(samples, *key) for table in tables for key in samples if key[0] == table],
        notes=[f"Target: cost rises by less than {RISE_MAX:.0%}.", *notes],
        panels=[_panel(samples, table) for table in tables],
        failures=[
            *missed,
            *(
                f"{table}, {value:,}: {failed:,} requests were refused or not answered"
                for (table, value), rounds in samples.items()
                if (failed := sum(each.failed for each in rounds))
            ),
        ],
    )


def rise(samples: Samples, table: Table) -> float:
    """By how much the cost at the end of the axis is above that at its start."""
    return _times_first(samples, table, _last(samples, table)) - 1


def _last(samples: Samples, table: Table) -> int:
    return max(value for each, value in samples if each == table)


def _times_first(samples: Samples, table: Table, value: int) -> float:
    """The median of the ratios of each round."""
    first = min(value for each, value in samples if each == table)
    pairs = zip(samples[table, value], samples[table, first], strict=True)
    return statistics.median(one.cost_s() / other.cost_s() for one, other in pairs)


def _median(of: Sequence[Sample], measured: Callable[[Sample], float]) -> float:
    return statistics.median(map(measured, of))


def _row(samples: Samples, table: Table, value: int) -> report.Row:
    of = samples[table, value]
    row: dict[str, report.Figure | str] = {
        "against": table,
        "of them": f"{value:,}",
        "CPU": report.Figure(_median(of, Sample.cost_s), "s"),
        "times first": report.Figure(_times_first(samples, table, value), "ratio"),
        "items a message": f"{_median(of, lambda each: each.items):.1f}",
        "a second": report.Figure(_median(of, lambda each: each.rate), "a second"),
    }
    for kind in usage.KINDS:
        row[f"… {kind}"] = report.Figure(_cost_s(of, kind), "s")
    if table in TARGETS and value == _last(samples, table):
        row["holds"] = "yes" if rise(samples, table) < RISE_MAX else "NO"
    return row


def _cost_s(of: Sequence[Sample], kind: str) -> float:
    return _median(of, lambda each: each.cost_s(kind))


def _panel(samples: Samples, table: Table) -> report.Panel:
    values = [value for each, value in samples if each == table]
    return report.Panel(
        title=f"CPU time of an execution, in µs, against {TITLES[table]}",
        groups=[f"{value:,}" for value in values],
        kind="stacked",
        series=[
            report.Series(
                name=kind,
                role="part",
                values=[_cost_s(samples[table, value], kind) * 1e6 for value in values],
            )
            for kind in usage.KINDS
        ],
    )
