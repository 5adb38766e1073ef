"""The executor pool: runs programs in cells, records what happened, answers."""

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final

from loopai import errors
from loopai.catalog import catalog, programs, schemas
from loopai.sandbox import pool, program
from streams import intake, replay, subjects, topology
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import ExecuteItem, ExecutionRecord, ProgramArtifact, TaskHead
from workers import answers, cells, runtime, verdict

NAME: Final = "executor"
PROGRAMS_MAX: Final = 64
"""Program texts kept in memory; a text is 1 MiB at most."""
WHOLE_ATTEMPTS_MAX: Final = 2
"""Deliveries on which a batch is run as a whole; from then on item by item."""
HANDLE_S_MAX: Final = 1_800.0
"""256 items of 5 s each, and some."""


@contextlib.asynccontextmanager
async def opened(host: runtime.Host) -> AsyncIterator[runtime.Pool]:
    """The pool. StartupError when this machine cannot keep programs in."""
    async with cells.opened(host, cells_max=host.settings.cells_max) as (known, running):
        executor = Executor(
            host.connection,
            known,
            running,
            run_ms_max=host.settings.run_ms_max,
            worker=host.instance,
        )
        slots = host.settings.executor_slots
        yield runtime.Pool(
            name=NAME,
            sources=(
                runtime.Source(topology.EXECUTOR_INTERACTIVE, slots),
                runtime.Source(topology.EXECUTOR_BULK, slots),
            ),
            handle=executor.handle,
            handle_s_max=HANDLE_S_MAX,
            languages=("python",),
        )


class Executor:
    """Handles deliveries of EXECUTE. Dependencies are closed by whoever made them."""

    def __init__(
        self,
        connection: Connection,
        known: catalog.Catalog,
        cells: pool.CellPool,
        *,
        run_ms_max: int,
        worker: str,
    ) -> None:
        self._connection = connection
        self._catalog = known
        self._cells = cells
        self._run_ms_max = run_ms_max
        self._worker = worker
        self._programs: OrderedDict[tuple[str, str], program.Program] = OrderedDict()

    async def handle(self, delivery: Delivery) -> None:
        """Run what *delivery* asks for, record it and answer.

        A batch is run, recorded and answered as one, twice if need be: both times under the same
        message id, so that a first worker that was only slow is not recorded beside a second.
        Then its items go one by one, in turns forwards and backwards: an item that brings workers
        down cannot keep its neighbours from their answers (ADR 0003).
        """
        try:
            tenant, task = subjects.owner(delivery.subject)
        except ValueError as error:
            raise errors.Rejected(str(error)) from error
        batch = intake.batch(
            delivery.headers,
            delivery.payload,
            sequence=delivery.sequence,
            published_at=delivery.published_at,
        )
        order = verdict.Order(tenant=tenant, task=task, batch=batch, attempt=delivery.attempt)
        records: dict[str, ExecutionRecord] = {}
        if delivery.attempt > 1:
            records = await self._recorded(order, since=delivery.published_at)
        if not records and delivery.attempt <= WHOLE_ATTEMPTS_MAX:
            await self._run_and_record(delivery, order, batch.items, records)
        else:
            for item in batch.items if delivery.attempt % 2 else reversed(batch.items):
                if item.id not in records:
                    await self._run_and_record(delivery, order, (item,), records)
        await answers.reply(self._connection, delivery, [records[i.id] for i in batch.items])

    async def _recorded(
        self, order: verdict.Order, *, since: datetime
    ) -> dict[str, ExecutionRecord]:
        """What an earlier delivery of *order*, published at *since*, has recorded, by id."""
        return await replay.recorded(
            self._connection,
            tenant=order.tenant,
            task=order.task,
            wanted={item.id for item in order.batch.items},
            since=since,
        )

    async def _run_and_record(
        self,
        delivery: Delivery,
        order: verdict.Order,
        items: Sequence[ExecuteItem],
        records: dict[str, ExecutionRecord],
    ) -> None:
        """Run *items*, store their records, and add them to *records*."""
        fresh = await self._run(order, items)
        # A worker that slept past its lease would record what another one has run again.
        if not delivery.leased:
            raise runtime.LeaseLost
        first = items[0].id
        message_id = first if len(items) == 1 else f"batch:{first}"
        kept = await answers.record(self._connection, fresh, message_id=message_id)
        records.update((record.id, record) for record in kept)

    async def _run(
        self, order: verdict.Order, items: Sequence[ExecuteItem]
    ) -> list[ExecutionRecord]:
        """One record for each of *items*, in order."""
        started_ms = time.time() * 1000
        run = _Run(order, self._worker, started_ms)
        try:
            run.task = await self._catalog.task(order.tenant, order.task)
        except errors.ApiError as error:
            return [run.record(item, verdict.refused(error)) for item in items]
        by_version: dict[int, list[ExecuteItem]] = {}
        records: dict[str, ExecutionRecord] = {}
        for item in items:
            ended = verdict.admit(order, run.task, item, started_ms)
            if ended is None:
                try:
                    version = item.version or await self._active_version(run.task.id)
                except errors.ApiError as error:
                    ended = verdict.refused(error)
                else:
                    by_version.setdefault(version, []).append(item)
            if ended is not None:
                records[item.id] = run.record(item, ended)
        for version, group in by_version.items():
            for record in await self._run_version(run, run.task, version, group):
                records[record.id] = record
        return [records[item.id] for item in items]

    async def _active_version(self, task_id: str) -> int:
        # Memory answers but for the moment after a first activation.
        return self._catalog.active_version(task_id) or await self._catalog.require_active_version(
            task_id
        )

    async def _run_version(
        self, run: "_Run", task: TaskHead, version: int, items: Sequence[ExecuteItem]
    ) -> list[ExecutionRecord]:
        try:
            artifact = await self._catalog.artifact(task.id, version)
        except errors.ApiError as error:
            return [run.record(item, verdict.refused(error)) for item in items]
        outcomes = await self._cells.run(
            await self._program(run.order.tenant, artifact),
            [item.input for item in items],
            [min(self._run_ms_max, max(1.0, item.deadline_ms - run.started_ms)) for item in items],
        )
        if any(each.kind == "lost" for each in outcomes) and (
            run.order.attempt < topology.MAX_DELIVER
        ):
            raise errors.Transient("the cell broke under the batch", retry_after_s=0.1)
        schema = schemas.compiled(bytes(task.output_schema))
        return [
            run.record(item, verdict.judge(ended, schema), artifact)
            for item, ended in zip(items, outcomes, strict=True)
        ]

    async def _program(self, tenant: str, artifact: ProgramArtifact) -> program.Program:
        key = (tenant, artifact.digest)
        loaded = self._programs.get(key)
        if loaded is None:
            try:
                code = await self._catalog.code(artifact)
            except programs.StoreError as error:
                raise errors.Transient(str(error)) from error
            loaded = program.Program(
                tenant=tenant, digest=artifact.digest, code=code, isolation=artifact.isolation
            )
            self._programs[key] = loaded
            if len(self._programs) > PROGRAMS_MAX:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        return loaded


class _Run:
    """One pass over items of an order; `task` is set once it is known."""

    def __init__(self, order: verdict.Order, worker: str, started_ms: float) -> None:
        self.order = order
        self.started_ms = started_ms
        self.task: TaskHead | None = None
        self._worker = worker

    def record(
        self, item: ExecuteItem, ended: verdict.Verdict, artifact: ProgramArtifact | None = None
    ) -> ExecutionRecord:
        return verdict.record(
            self.order,
            item,
            ended,
            task=self.task,
            artifact=artifact,
            worker=self._worker,
            started_ms=self.started_ms,
            now=datetime.now(UTC),
        )
