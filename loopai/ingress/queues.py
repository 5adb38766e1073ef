"""What waits in EXECUTE: `GET /api/v1/queues`, a tenant's cap, and the way past a crowded queue."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loopai.catalog.mirror import Mirror
from loopai.ingress import bodies, services
from streams import backlog, publisher, replay, subjects, topology
from streams.connection import Connection
from streams.messages import Lane, WorkerPresence

FRESH_S: Final = 1.0
"""How old a count may be while somebody asks: many who ask cost the broker as much as one."""
READING_SHARE: Final = 20
"""A count that took the broker long, of very many subjects, is good for so many times as long."""
CROWDED: Final = 32
"""Messages of others in a task's queue, from which on it looks for another."""
OLDEST_MAX: Final = 64
"""Rows whose oldest message is looked up, a call each: those with most."""
OLDEST_AT_ONCE: Final = 16

_Queue = tuple[str, int, int]
"""Lane, group and place."""


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
        self._tenants: Counter[str] = Counter()
        self._queues: Counter[_Queue] = Counter()
        self._due = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

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
        """All rows of *tenant*, or those of *task*, by name. replay.ReplayFailed."""
        if time.monotonic() >= self._due:
            await self._read()
        queued = _rows(self._counts, tenant, task)
        running, rates = (
            _rows(told, tenant, task)
            for told in (self._told(lambda one: one.running), self._told(lambda one: one.rates))
        )
        rows = sorted(queued.keys() | running.keys() | rates.keys(), key=str)
        oldest = await self._oldest(tenant, sorted(queued, key=lambda row: -queued[row]))
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
            for row in rows
        ]

    def _crowd(self, lane: Lane, queue: tuple[int, int], tenant: str, task: str) -> int:
        """Messages of others in *queue*."""
        held = self._queues.get((lane, *queue), 0)
        if held <= CROWDED:
            return held
        return held - self._counts.get(subjects.placed(lane, queue, tenant, task), 0)

    def _refresh(self) -> None:
        """Read again where it is time, behind whoever asks."""
        if time.monotonic() >= self._due and self._reading is None:
            self._reading = asyncio.create_task(self._read())
            self._reading.add_done_callback(self._was_read)

    def _was_read(self, _: asyncio.Task[None]) -> None:
        self._reading = None

    async def _read(self) -> None:
        begun = time.monotonic()
        try:
            with contextlib.suppress(replay.ReplayFailed):  # the last count stands
                self._count(await backlog.messages(self._connection))
        finally:
            now = time.monotonic()
            self._due = now + max(FRESH_S, READING_SHARE * (now - begun))

    def _count(self, counts: dict[str, int]) -> None:
        tenants: Counter[str] = Counter()
        queues: Counter[_Queue] = Counter()
        for subject, number in counts.items():
            with contextlib.suppress(ValueError):  # of a tenant that is no name: nobody's
                tenants[subjects.owner(subject)[0]] += number
                if not subjects.is_routed(subject):
                    queues[subjects.lane(subject), *subjects.queue_of(subject)] += number
        self._counts, self._tenants, self._queues = counts, tenants, queues

    def _told(self, of: Callable[[WorkerPresence], Mapping[str, float]]) -> dict[str, float]:
        """By stored subject, of all live workers together."""
        now = time.monotonic()
        total: defaultdict[str, float] = defaultdict(float)
        for key, entry in list(self._workers.entries.items()):
            if now - self._workers.heard_at[key] < topology.WORKERS.ttl_s:
                for subject, value in of(entry.value).items():
                    total[subject] += value
        return total

    async def _oldest(self, tenant: str, rows: list[_Row]) -> dict[_Row, datetime | None]:
        """Of the first of *rows*."""
        gate = asyncio.Semaphore(OLDEST_AT_ONCE)

        async def one(row: _Row) -> datetime | None:
            async with gate:
                return await backlog.oldest(self._connection, _subject(tenant, row))

        looked = rows[:OLDEST_MAX]
        return dict(zip(looked, await asyncio.gather(*map(one, looked)), strict=True))


def _rows(
    by_subject: Mapping[str, float], tenant: str, task: str | None
) -> defaultdict[_Row, float]:
    """*by_subject* summed up by row, of *tenant* and *task*."""
    found: defaultdict[_Row, float] = defaultdict(float)
    for subject, value in by_subject.items():
        for row in _row(subject, tenant, task):
            found[row] += value
    return found


def _row(subject: str, tenant: str, task: str | None) -> Iterator[_Row]:
    try:
        owner, named = subjects.owner(subject)
    except ValueError:
        return
    if owner == tenant and task in {None, named}:
        yield _Row(named, subjects.lane(subject), subjects.runtime(subject))


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
    shared = services.of(request)
    reference = request.query_params.get("task")
    task = None
    if reference is not None:
        task = (await shared.catalog.task(services.TENANT, reference)).name
    return bodies.json({"queues": await shared.queues.view(services.TENANT, task)})


routes = [Route("/queues", queues, methods=["GET"])]
