"""What an executor does with a delivery: runs programs in cells, records what happened, answers."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final

from loopai import errors
from loopai.catalog import catalog, schemas, split
from loopai.catalog.stores import store as stores
from loopai.sandbox import outcome, pool
from streams import intake, publisher, replay, routing, subjects, topology
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import (
    ExecuteItem,
    ExecutionRecord,
    Language,
    ProgramArtifact,
    Rollout,
    Runtime,
    TaskHead,
)
from workers import (
    answers,
    cancellations,
    desk,
    events,
    rates,
    runtime,
    shadows,
    texts,
    verdict,
)

ITEMS_A_TURN: Final = 32
"""Items judged and recorded, 2 µs each and what their schema takes, before others have a turn."""
WHOLE_ATTEMPTS_MAX: Final = 2
"""Deliveries on which a batch is run as a whole; from then on item by item."""
ROOM_S: Final = 5.0
"""First wait for room in the queue of another runtime; it grows with every attempt."""


class Elsewhere(Exception):  # noqa: N818 (it says what is the matter)
    """The batch needs *runtime*, which this worker does not have."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__(runtime)
        self.runtime = runtime


class Executor:
    """Handles deliveries of EXECUTE. Dependencies are closed by whoever made them."""

    def __init__(
        self,
        connection: Connection,
        known: catalog.Catalog,
        cells: pool.CellPool,
        shown: events.Events,
        cancelled: cancellations.Cancellations,
        *,
        beside: shadows.Shadows,
        languages: frozenset[Language],
        run_ms_max: int,
        worker: str,
        weights: Mapping[str, float],
    ) -> None:
        self._connection = connection
        self._events = shown
        self._catalog = known
        self._cells = cells
        self._cancelled = cancelled
        self._languages = languages
        self._run_ms_max = run_ms_max
        self._worker = worker
        self._shadows = beside
        self._rates = rates.Rates()
        self._desk = desk.Desk(weights)

    def rates(self) -> dict[str, float]:
        """Executions recorded per second over the last minute, by stored subject."""
        return self._rates.per_s(time.monotonic())

    async def handle(self, delivery: Delivery) -> None:
        """Run what *delivery* asks for, record it and answer.

        A batch is run, recorded and answered as one, twice if need be: both times under the same
        message id, so that a first worker that was only slow is not recorded beside a second.
        Then its items go one by one, in turns forwards and backwards: an item that brings workers
        down cannot keep its neighbours from their answers (ADR 0003). A batch that needs a runtime
        which is not here goes on, whole, to a worker that has it (ADR 0009).
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
        if await self._is_forwarded(delivery):
            return
        records = await self._recorded(delivery, order)
        try:
            await self._settle(delivery, order, records)
        except Elsewhere as elsewhere:
            await self._forward(delivery, order, records, elsewhere.runtime)
        else:
            await self._reply(delivery, order, records)
            self._shadows.offer(order, records)

    async def _settle(
        self, delivery: Delivery, order: verdict.Order, records: dict[str, ExecutionRecord]
    ) -> None:
        """Run and record what *records* lacks, and add it there. Elsewhere."""
        items = order.batch.items
        if not records and delivery.attempt <= WHOLE_ATTEMPTS_MAX:
            await self._record(delivery, await self._run(order, items), records)
            return
        for item in items if delivery.attempt % 2 else reversed(items):
            if item.id not in records:
                await self._record(delivery, await self._run(order, (item,)), records)

    async def _reply(
        self, delivery: Delivery, order: verdict.Order, records: dict[str, ExecutionRecord]
    ) -> None:
        found = [records[item.id] for item in order.batch.items]
        await answers.reply(self._connection, delivery, found)

    async def _is_forwarded(self, delivery: Delivery) -> bool:
        """Whether an earlier delivery stored the copy, and its worker died before the ack."""
        if delivery.attempt == 1 or subjects.is_routed(delivery.subject):
            return False
        return await routing.is_forwarded(self._connection, delivery)

    async def _recorded(
        self, delivery: Delivery, order: verdict.Order
    ) -> dict[str, ExecutionRecord]:
        """What earlier deliveries of *order* have recorded, by id."""
        since = routing.recorded_since(delivery.subject, delivery.headers)
        if since is None:
            if delivery.attempt == 1:
                return {}
            since = delivery.published_at
        return await replay.recorded(
            self._connection,
            tenant=order.tenant,
            task=order.task,
            wanted={item.id for item in order.batch.items},
            since=since,
        )

    async def _forward(
        self,
        delivery: Delivery,
        order: verdict.Order,
        records: dict[str, ExecutionRecord],
        needed: Runtime,
    ) -> None:
        """Hand the whole batch to workers that have *needed*; whoever gets it answers it."""
        if not delivery.leased:
            raise runtime.LeaseLost
        try:
            await routing.forward(self._connection, delivery, order.batch, needed)
        except publisher.BacklogFull as error:
            reason = f"too much work waits for a worker with {needed} ({error})"
            if not delivery.is_last:
                raise errors.Transient(reason, retry_after_s=ROOM_S) from error
            # An answer that says so is worth more to its caller than a dead letter.
            this = verdict.Pass(order=order, worker=self._worker, started_us=_now_us())
            full = verdict.refused(errors.ApiError("BACKLOG_FULL", reason))
            left = [item for item in order.batch.items if item.id not in records]
            await self._record(delivery, _refused(this, left, full), records)
            await self._reply(delivery, order, records)

    async def _record(
        self,
        delivery: Delivery,
        fresh: list[ExecutionRecord],
        records: dict[str, ExecutionRecord],
    ) -> None:
        """Store *fresh* and add it to *records*, as RECORDS has it."""
        # A worker that slept past its lease would record what another one has run again.
        if not delivery.leased:
            raise runtime.LeaseLost
        first = fresh[0].id
        message_id = first if len(fresh) == 1 else f"batch:{first}"
        kept = await answers.record(
            self._connection, fresh, message_id=message_id, shown=self._events
        )
        records.update((record.id, record) for record in kept)
        self._rates.add(delivery.subject, len(kept), time.monotonic())

    async def _run(
        self, order: verdict.Order, items: Sequence[ExecuteItem]
    ) -> list[ExecutionRecord]:
        """One record for each of *items*, in order. Elsewhere before any of them is run."""
        started_us = _now_us()
        try:
            # What was accepted may be for a task that was made between two looks.
            task = await self._catalog.task(order.tenant, order.task, even_if_missed=True)
        except errors.ApiError as error:
            this = verdict.Pass(order=order, worker=self._worker, started_us=started_us)
            return _refused(this, items, verdict.refused(error))
        this = verdict.Pass(order=order, worker=self._worker, started_us=started_us, task=task)
        by_version, records = await self._sorted(this, task, items)
        artifacts = {version: await self._artifact(task.id, version) for version in by_version}
        for version, group in by_version.items():
            artifact = artifacts[version]
            if isinstance(artifact, errors.ApiError):
                found = _refused(this, group, verdict.refused(artifact))
            else:
                found = await self._run_version(this, task, artifact, group)
            if len(found) == len(items):
                return found
            records.update((each.id, each) for each in found)
        return [records[item.id] for item in items]

    async def _sorted(
        self, this: verdict.Pass, task: TaskHead, items: Sequence[ExecuteItem]
    ) -> tuple[dict[int, Sequence[ExecuteItem]], dict[str, ExecutionRecord]]:
        """What of *items* is to be run, by version; and the records of what is not."""
        by_version: dict[int, list[ExecuteItem]] = {}
        records: dict[str, ExecutionRecord] = {}
        now_ms = this.started_us / 1000
        cancelled = self._cancelled.among(this.order.tenant, items)
        passed = not cancelled and verdict.admits_all(this.order, task, items, now_ms)
        rollout = self._catalog.known_rollout(task.id)
        active = rollout.active if rollout is not None and rollout.canary is None else None
        if passed and active is not None and not any(item.version for item in items):
            return {active: items}, {}
        for number, item in enumerate(items, 1):
            ended = None if passed else verdict.admit(this.order, task, item, now_ms, cancelled)
            if ended is None:
                try:
                    version = item.version or await self._chosen(task, rollout, item)
                except errors.ApiError as error:
                    ended = verdict.refused(error)
                else:
                    by_version.setdefault(version, []).append(item)
            if ended is not None:
                records[item.id] = _refused(this, (item,), ended)[0]
            if not passed and number % ITEMS_A_TURN == 0:
                await asyncio.sleep(0)
        return {**by_version}, records

    async def _chosen(self, task: TaskHead, rollout: Rollout | None, item: ExecuteItem) -> int:
        """The version that *rollout* has for *item*. NO_ACTIVE_VERSION."""
        if rollout is None or rollout.active is None:
            # Memory knows the active one but in the moment after a first activation.
            rollout = await self._catalog.require_rollout(task.id)
        return split.version(rollout, item.id, item.routing_key)

    async def _artifact(self, task_id: str, version: int) -> ProgramArtifact | errors.ApiError:
        """The version, or why there is none. Elsewhere if its runtime is not here."""
        try:
            artifact = await self._catalog.artifact(task_id, version)
        except errors.ApiError as error:
            return error
        needed = topology.RUNTIMES.get(artifact.language)
        if needed is not None and artifact.language not in self._languages:
            raise Elsewhere(needed)
        return artifact

    async def _run_version(
        self,
        this: verdict.Pass,
        task: TaskHead,
        artifact: ProgramArtifact,
        items: Sequence[ExecuteItem],
    ) -> list[ExecutionRecord]:
        now_ms, run_ms_max = this.started_us / 1000, self._run_ms_max
        tenant = this.order.tenant
        try:
            text = await texts.program_of(self._catalog, tenant, artifact)
        except stores.StoreError as error:
            if this.order.attempt < topology.MAX_DELIVER:
                # Another worker may have it in memory, and an endpoint may come back.
                raise errors.Transient(str(error)) from error
            # An answer that says so is worth more to its caller than a dead letter.
            unread = verdict.refused(stores.problem(error))
            return this.records(items, [unread] * len(items), artifact, now_us=_now_us())
        with self._cancelled.reaching(tenant, items) as recalled:
            outcomes = await self._cells.run(
                text,
                [item.input for item in items],
                [min(run_ms_max, max(1.0, item.deadline_ms - now_ms)) for item in items],
                recalled,
            )
        if this.order.attempt < topology.MAX_DELIVER and any(
            each.kind == "lost" for each in outcomes
        ):
            raise errors.Transient("the cell broke under the batch", retry_after_s=0.1)
        return await self._judge(this, task, artifact, items, outcomes)

    async def _judge(
        self,
        this: verdict.Pass,
        task: TaskHead,
        artifact: ProgramArtifact,
        items: Sequence[ExecuteItem],
        outcomes: Sequence[outcome.Outcome],
    ) -> list[ExecutionRecord]:
        """The records of *items* that have come to *outcomes*."""
        schema = schemas.compiled(bytes(task.output_schema))
        ended_us = _now_us()

        def judged(some: slice) -> list[ExecutionRecord]:
            verdicts = [verdict.judge(ended, schema) for ended in outcomes[some]]
            return this.records(items[some], verdicts, artifact, now_us=ended_us)

        if len(items) <= ITEMS_A_TURN:
            return judged(slice(None))
        records: list[ExecutionRecord] = []
        async with self._desk.seat(this.order.tenant, this.order.task, len(items)):
            for first in range(0, len(items), ITEMS_A_TURN):
                records += judged(slice(first, first + ITEMS_A_TURN))
                await asyncio.sleep(0)
        return records


def _refused(
    this: verdict.Pass, items: Sequence[ExecuteItem], ended: verdict.Verdict
) -> list[ExecutionRecord]:
    return this.records(items, [ended] * len(items), None, now_us=_now_us())


def _now_us() -> int:
    return time.time_ns() // 1000
