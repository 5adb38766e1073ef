"""Runs of a task's shadow version, beside what was answered: recorded, and nobody waits (ADR 0019).

They are best effort. One batch at a time is run, in no slot of the worker; what does not fit into
the queue before it is dropped, and counted.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from loopai import errors
from loopai.catalog import catalog, schemas
from loopai.sandbox import pool
from streams import ending, ids, publisher, subjects, topology
from streams.connection import Connection
from streams.messages import ExecuteItem, ExecutionRecord, Language, ProgramArtifact, TaskHead
from workers import answers, metrics, texts, verdict

log = structlog.get_logger()

QUEUED_MAX: Final = 8 * topology.ITEMS_MAX
"""Executions that wait to be run in the shadow: eight full batches …"""
QUEUED_BYTES_MAX: Final = 16 * topology.MIB
"""… and their inputs."""
BATCH_S_MAX: Final = 60.0
"""Longest run of one batch: the rest of the queue has its turn as well."""
ITEMS_A_TURN: Final = 32
"""Items judged before others have a turn; as in the executor."""


class _Work(msgspec.Struct, frozen=True):
    """Executions of one delivery that are to be run again, and no others."""

    order: verdict.Order
    task_id: str
    version: int
    size_bytes: int

    @property
    def items(self) -> Sequence[ExecuteItem]:
        return self.order.batch.items


class Shadows:
    """Open with `opened`. What becomes of executions is in `counts`."""

    def __init__(
        self,
        connection: Connection,
        known: catalog.Catalog,
        cells: pool.CellPool,
        *,
        languages: frozenset[Language],
        run_ms_max: int,
        worker: str,
        batch_s_max: float = BATCH_S_MAX,
    ) -> None:
        self._connection = connection
        self._catalog = known
        self._cells = cells
        self._languages = languages
        self._run_ms_max = run_ms_max
        self._worker = worker
        self._batch_s_max = batch_s_max
        self._queue: deque[_Work] = deque()
        self._queued = 0
        self._queued_bytes = 0
        self._offered = asyncio.Event()
        self.counts = metrics.ShadowCounts()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["Shadows"]:
        """Run what is offered while inside; what waits at the end is dropped."""
        running = asyncio.create_task(self._run())
        try:
            yield self
        finally:
            await ending.end(running)

    def offer(self, order: verdict.Order, records: Mapping[str, ExecutionRecord]) -> None:
        """Have what *records* answer run on the shadow version too, if there is one and room.

        Only what the rollout chose the version of, and what a program has run.
        """
        rollout = self._catalog.known_rollout(records[order.batch.items[0].id].task_id)
        if rollout is None or rollout.shadow is None:
            return
        items = tuple(
            item
            for item in order.batch.items
            if item.version is None and _was_run(records[item.id], but_not_by=rollout.shadow)
        )
        size_bytes = sum(len(item.input) for item in items)
        if (
            self._queued + len(items) > QUEUED_MAX
            or self._queued_bytes + size_bytes > QUEUED_BYTES_MAX
        ):
            self.counts.dropped += len(items)
            return
        if items:
            self._queued += len(items)
            self._queued_bytes += size_bytes
            # Without the others, whose inputs would be kept as well.
            batch = msgspec.structs.replace(order.batch, items=items)
            mine = msgspec.structs.replace(order, batch=batch)
            self._queue.append(_Work(mine, rollout.task_id, rollout.shadow, size_bytes))
            self._offered.set()

    async def _run(self) -> None:
        while True:
            while self._queue:
                work = self._queue.popleft()
                recorded = 0
                try:
                    async with asyncio.timeout(self._batch_s_max):
                        recorded = await self._recorded(work)
                except Exception as error:  # noqa: BLE001 (nothing may end the ones to come)
                    reason = f"{type(error).__name__}: {error}"
                    log.info("shadow dropped", task=work.order.task, reason=reason)
                self.counts.recorded += recorded
                self.counts.dropped += len(work.items) - recorded
                self._queued -= len(work.items)
                self._queued_bytes -= work.size_bytes
            self._offered.clear()
            await self._offered.wait()

    async def _recorded(self, work: _Work) -> int:
        """Run *work* and store its records; how many."""
        order = work.order
        task = await self._catalog.task(order.tenant, order.task)
        artifact = await self._catalog.artifact(work.task_id, work.version)
        if artifact.language not in self._languages:
            raise errors.Transient(f"version {work.version} needs another worker")
        found = await self._judged(work, task, artifact)
        tenant, name = found[0].tenant, found[0].task
        for number, payload in enumerate(answers.payloads(found)):
            # Under the first id: another delivery of the same message is recorded once.
            message_id = f"{tenant}.{name}:shadow:{work.version}:{found[0].id}:{number}"
            await publisher.publish(
                self._connection, subjects.shadow(tenant, name), payload, message_id=message_id
            )
        return len(found)

    async def _judged(
        self, work: _Work, task: TaskHead, artifact: ProgramArtifact
    ) -> list[ExecutionRecord]:
        text = await texts.program_of(self._catalog, work.order.tenant, artifact)
        this = verdict.Pass(
            order=work.order, worker=self._worker, started_us=_now_us(), task=task, shadow=True
        )
        outcomes = await self._cells.run(
            text,
            [item.input for item in work.items],
            # As long as the answer might have taken, from its beginning.
            [min(self._run_ms_max, max(1.0, _asked_ms(item))) for item in work.items],
        )
        schema = schemas.compiled(bytes(task.output_schema))
        ended_us = _now_us()
        records: list[ExecutionRecord] = []
        for first in range(0, len(outcomes), ITEMS_A_TURN):
            some = slice(first, first + ITEMS_A_TURN)
            verdicts = [verdict.judge(ended, schema) for ended in outcomes[some]]
            records += this.records(work.items[some], verdicts, artifact, now_us=ended_us)
            await asyncio.sleep(0)
        return records


def _was_run(record: ExecutionRecord, *, but_not_by: int) -> bool:
    """Whether a program has answered; what was cancelled or refused casts no shadow."""
    return (
        record.program_id is not None
        and record.status != "cancelled"
        and record.version != but_not_by
    )


def _now_us() -> int:
    return time.time_ns() // 1000


def _asked_ms(item: ExecuteItem) -> float:
    return item.deadline_ms - ids.minted_ms(item.id)
