"""What waits in EXECUTE: `GET /api/v1/queues`, a tenant's cap, and the way past a crowded queue."""

import asyncio
import contextlib
import heapq
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai.catalog.mirror import Mirror
from loopai.ingress import bodies, identity, services
from streams import backlog, ending, publisher, subjects, topology
from streams.connection import Connection
from streams.messages import Lane, WorkerPresence

FRESH_S: Final = 1.0
"""How old a count may be while somebody asks: many who ask cost the broker as much as one."""
READING_SHARE: Final = 20
"""A count that took long, of very many subjects, is good for so many times as long …"""
AGE_S_MAX: Final = 10.0
"""… and no longer than this."""
SUBJECTS_A_TURN: Final = 256
"""Counted, 3 µs each, before others have a turn."""
CROWDED: Final = 32
"""Messages of others in a task's queue, from which on it looks for another."""
ROWS_MAX: Final = 1_000
"""Shown at once: those with most queued."""
OLDEST_MAX: Final = 64
"""Rows whose oldest message is looked up, a call each: those with most."""
OLDEST_AT_ONCE: Final = 16

_Queue = tuple[str, int, int]
"""Lane, group and place."""
V = TypeVar("V", bound=float)


class _Row(NamedTuple):
    """What one row of the view is about."""

    task: str
    lane: str
    runtime: str | None


class QueueView(msgspec.Struct, frozen=True, kw_only=True):
    """One task in one lane."""

    task: str
    lane: str
    runtime: str | None
    """Of work that only workers with this runtime take; else null."""
    queued: int
    """Messages, of 1 to 256 executions, that no worker is at."""
    running: int
    """Messages that workers were at, when they last said so: every three seconds."""
    oldest_s: float | None
    """Since the oldest of all these was stored; null where there is none, or was not looked for."""
    rate: float
    """Executions recorded per second, over the last minute."""


class Queues:
    """What EXECUTE holds, read from the broker about once a second while it is asked for.

    Closed by its maker.
    """

    def __init__(
        self, connection: Connection, workers: Mirror[WorkerPresence], *, tenant_backlog_max: int
    ) -> None:
        self._connection = connection
        self._workers = workers
        self._tenant_backlog_max = tenant_backlog_max
        self._counts: dict[str, int] = {}
        self._rows: dict[str, Counter[_Row]] = {}
        self._tenants: Counter[str] = Counter()
        self._queues: Counter[_Queue] = Counter()
        self._due = float("-inf")
        self._failed = False
        """Whether the last look got no answer: the counts are those of one before."""
        self._reading: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._reading is not None:
            await ending.end(self._reading)

    def require_room(self, tenant: str) -> None:
        """BacklogFull while *tenant* has as much queued as it may have, as of a second ago."""
        self._refresh()
        queued = self._tenants.get(tenant, 0)
        if queued >= self._tenant_backlog_max:
            raise publisher.BacklogFull(
                f"the tenant has {queued} messages queued, of {self._tenant_backlog_max} that it "
                "may have"
            )

    def subject(self, lane: Lane, tenant: str, task: str) -> str:
        """Where to publish an execution: its own queue, or its second where others crowd the first.

        Each task has two queues to choose from, as of a second ago: whoever floods one delays only
        those that had no second (M. Mitzenmacher, "The power of two choices", 1996).
        """
        self._refresh()
        first, second = subjects.queues(tenant, task)
        crowd = self._crowd(lane, first, tenant, task)
        if crowd <= CROWDED or crowd <= self._crowd(lane, second, tenant, task):
            return subjects.execute(lane, tenant, task)
        return subjects.placed(lane, second, tenant, task)

    async def view(self, tenant: str, task: str | None = None) -> list[QueueView]:
        """The rows of *tenant* with most, or those of *task*, by name. replay.ReplayFailed."""
        if self._failed or time.monotonic() >= self._due:
            # Shielded: whoever goes meanwhile must not take the count from the others.
            await asyncio.shield(self._read_once())
        held = self._rows.get(tenant, Counter())
        queued = Counter({row: held[row] for row in held if task is None or row.task == task})
        running = await self._told(lambda one: one.running, tenant, task)
        rates = await self._told(lambda one: one.rates, tenant, task)
        rows = heapq.nlargest(
            ROWS_MAX,
            queued.keys() | running.keys() | rates.keys(),
            key=lambda row: (queued[row], running[row], rates[row]),
        )
        oldest = await self._oldest(tenant, [row for row in rows if queued[row]])
        now = datetime.now(UTC)
        return [
            QueueView(
                task=row.task,
                lane=row.lane,
                runtime=row.runtime,
                queued=max(0, int(queued[row] - running[row])),
                running=int(running[row]),
                oldest_s=_age_s(oldest.get(row), now),
                rate=round(rates[row], 3),
            )
            for row in sorted(rows, key=lambda row: (row.task, row.lane, row.runtime or ""))
        ]

    def _crowd(self, lane: Lane, queue: tuple[int, int], tenant: str, task: str) -> int:
        """Messages of others in *queue*."""
        held = self._queues.get((lane, *queue), 0)
        if held <= CROWDED:
            return held
        return held - self._counts.get(subjects.placed(lane, queue, tenant, task), 0)

    def _refresh(self) -> None:
        """Read again where it is time, behind whoever asks."""
        if time.monotonic() >= self._due:
            self._read_once()

    def _read_once(self) -> asyncio.Task[None]:
        """The reading that is under way, of which there is one at a time."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._was_read)
        return self._reading

    def _was_read(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # whoever waited has it, too

    async def _read(self) -> None:
        begun = time.monotonic()
        self._failed, lasts_s = True, FRESH_S
        try:
            await self._count(await backlog.messages(self._connection))
            self._failed = False
            took_s = time.monotonic() - begun
            lasts_s = max(FRESH_S, min(AGE_S_MAX, READING_SHARE * took_s))
        finally:
            self._due = time.monotonic() + lasts_s

    async def _count(self, counts: dict[str, int]) -> None:
        rows: defaultdict[str, Counter[_Row]] = defaultdict(Counter)
        tenants: Counter[str] = Counter()
        queues: Counter[_Queue] = Counter()
        async for subject, number in _in_turns(counts):
            with contextlib.suppress(ValueError):  # of a tenant that is no name: nobody's
                tenant, row = _row(subject)
                tenants[tenant] += number
                rows[tenant][row] += number
                if row.runtime is None:
                    queues[row.lane, *subjects.queue_of(subject)] += number
        self._counts, self._rows, self._tenants, self._queues = counts, {**rows}, tenants, queues

    async def _told(
        self, of: Callable[[WorkerPresence], Mapping[str, float]], tenant: str, task: str | None
    ) -> defaultdict[_Row, float]:
        """What live workers say of *tenant* and *task*, summed up by row."""
        now = time.monotonic()
        heard_at = self._workers.heard_at
        live = [
            entry.value
            for key, entry in self._workers.entries.items()
            if now - heard_at[key] < topology.WORKERS.ttl_s
        ]
        found: defaultdict[_Row, float] = defaultdict(float)
        for worker in live:
            async for subject, value in _in_turns(of(worker)):
                # Generators are at work as well, but not at that of EXECUTE.
                if not subjects.is_execution(subject):
                    continue
                with contextlib.suppress(ValueError):
                    owner, row = _row(subject)
                    if owner == tenant and task in {None, row.task}:
                        found[row] += value
        return found

    async def _oldest(self, tenant: str, rows: list[_Row]) -> dict[_Row, datetime | None]:
        """Of the first of *rows*."""
        gate = asyncio.Semaphore(OLDEST_AT_ONCE)

        async def one(row: _Row) -> datetime | None:
            async with gate:
                return await backlog.oldest(self._connection, _subject(tenant, row))

        looked = rows[:OLDEST_MAX]
        return dict(zip(looked, await asyncio.gather(*map(one, looked)), strict=True))


async def _in_turns(by_subject: Mapping[str, V]) -> AsyncIterator[tuple[str, V]]:
    """All of *by_subject*; others have turns meanwhile."""
    for number, each in enumerate(by_subject.items(), 1):
        yield each
        if number % SUBJECTS_A_TURN == 0:
            await asyncio.sleep(0)


def _row(subject: str) -> tuple[str, _Row]:
    """Whose *subject*, of an execution, is, and the row that it counts for. ValueError."""
    tenant, task = subjects.owner(subject)
    return tenant, _Row(task, subjects.lane(subject), subjects.runtime(subject))


def _subject(tenant: str, row: _Row) -> str:
    """What the messages of *row* are stored on, whichever queue they are in."""
    if row.runtime is None:
        return subjects.queued_task(row.lane, tenant, row.task)
    return subjects.routed_task(tenant, row.task, runtime=row.runtime, lane=row.lane)


def _age_s(stored: datetime | None, now: datetime) -> float | None:
    # Two clocks: the broker's may be ahead of ours.
    return round(max(0.0, (now - stored).total_seconds()), 3) if stored else None


async def queues(request: Request) -> Response:
    """The queues of all tasks, or of `?task=`."""
    shared, tenant = services.of(request), identity.of(request).tenant
    reference = request.query_params.get("task")
    task = None
    if reference is not None:
        task = (await shared.catalog.task(tenant, reference)).name
    return bodies.json({"queues": await shared.queues.view(tenant, task)})


routes = [Route("/queues", queues, methods=["GET"])]
