"""From a request to its record: group commit on the way out, one reply subject on the way back."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from nats.aio.msg import Msg

from loopai import errors
from loopai.ingress import parking
from loopai.ingress.queues import Queues
from loopai.observe.metrics import DispatchMetrics
from streams import codec, ids, publisher, subjects
from streams.connection import Connection
from streams.messages import (
    ExecuteBatch,
    ExecuteItem,
    ExecutionRecord,
    ExecutionStatus,
    Lane,
    TaskHead,
)

GRACE_S: Final = 0.5
"""How long past its deadline an answer is waited for: a timeout is reported at the deadline."""

FRESH_S: Final = 30.0
"""How long after its id was minted an execution may be sent alone: what is looked for in the bus
and not found was not sent, once it is older, and is not any more."""


class StillQueued(Exception):  # noqa: N818 (it says what is the matter)
    """The execution is accepted, and has no result as long as its caller cared to wait."""


class Waiter(publisher.Waiter, Protocol):
    """Whoever waits for a record; told once, of the record or of what kept it from coming."""

    def take(self, record: ExecutionRecord) -> None:
        """The record has come."""


class _Awaited:
    """A Waiter to be awaited, by its `record`."""

    def __init__(self) -> None:
        self.record: asyncio.Future[ExecutionRecord] = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Event()
        """Of anything: that it is stored, that it failed, or the record."""

    def stored(self) -> None:
        self.heard.set()

    def failed(self, error: Exception) -> None:
        self.heard.set()
        if not self.record.done():
            self.record.set_exception(error)

    def take(self, record: ExecutionRecord) -> None:
        self.heard.set()
        if not self.record.done():
            self.record.set_result(record)


class _Waiting:
    """An entry of the table of those who wait: told by the bus, by the clock, or forgotten."""

    __slots__ = ("_owner", "item", "task", "timer", "waiter")

    def __init__(
        self, owner: "Dispatcher", task: TaskHead, item: ExecuteItem, waiter: Waiter
    ) -> None:
        self._owner = owner
        self.task = task
        self.item = item
        self.waiter = waiter
        # Not asyncio.timeout, which takes 3 µs more than a timer that is cancelled.
        left_s = item.deadline_ms / 1000 - time.time() + GRACE_S
        self.timer = asyncio.get_running_loop().call_later(left_s, self._expire)

    def stored(self) -> None:
        self.waiter.stored()

    def failed(self, error: Exception) -> None:
        if self._owner.forget(self.item.id):
            self.waiter.failed(_refused(error, self.task, self.item))

    def take(self, record: ExecutionRecord) -> None:
        self.timer.cancel()
        self.waiter.take(record)

    def _expire(self) -> None:
        if self._owner.forget(self.item.id):
            self.waiter.failed(late(self.item.id))


class Chunk:
    """Items that were sent together, and the records that have come of them.

    Whoever sent them is told once: when all have come, when they could not be published, or when
    their time is up. `error` says then why those without a record have none.
    """

    __slots__ = ("_ended", "_is_over", "_owner", "_task", "_timer", "failure", "items", "records")

    def __init__(
        self,
        owner: "Dispatcher",
        task: TaskHead,
        items: Sequence[ExecuteItem],
        ended: Callable[[], None],
    ) -> None:
        self._owner = owner
        self._task = task
        self._ended = ended
        self._is_over = False
        self.items = items
        self.records: dict[str, ExecutionRecord] = {}
        self.failure: Exception | None = None
        """BacklogFull or NotPublished, if that is what happened to them."""
        left_s = max(item.deadline_ms for item in items) / 1000 - time.time() + GRACE_S
        self._timer = asyncio.get_running_loop().call_later(left_s, self._end)

    def stored(self) -> None:
        """Their records will come, or their time runs out."""

    def failed(self, error: Exception) -> None:
        self._end(error)

    def take(self, record: ExecutionRecord) -> None:
        self.records[record.id] = record
        if len(self.records) == len(self.items):
            self._end()

    def forget(self) -> bool:
        """Nobody waits for them any more; False when it has ended already."""
        if self._is_over:
            return False
        self._is_over = True
        self._timer.cancel()
        self._owner.forget_chunk(self)
        return True

    def error(self, item: ExecuteItem) -> errors.ApiError:
        """Why *item*, one of those without a record, has none."""
        if self.failure is None:
            return late(item.id)
        return _refused(self.failure, self._task, item)

    def _end(self, failure: Exception | None = None) -> None:
        if self.forget():
            self.failure = failure
            self._ended()


class Dispatcher:
    """Sends items of one process and hands each result, on *subject*, to whoever waits for it."""

    def __init__(
        self,
        connection: Connection,
        subject: str,
        metrics: DispatchMetrics,
        queues: Queues,
        *,
        waiting_max: int,
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._subject = subject
        self._commit = publisher.GroupCommit(
            connection, reply_to=self._subject, subject=queues.subject
        )
        self._waiting: dict[str, _Waiting] = {}
        self._chunks: dict[str, Chunk] = {}
        self._waiting_max = waiting_max
        self.parking = parking.Parking()
        self._count = metrics.execution_counts()
        metrics.batches_of(self._commit)
        metrics.waiting.set_function(lambda: self.waiting)

    @property
    def waiting(self) -> int:
        """Executions whose records are waited for, of single requests and of batches."""
        return len(self._waiting) + len(self._chunks)

    async def start(self) -> None:
        await self._connection.client.subscribe(
            self._subject, cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def close(self) -> None:
        self.parking.close()
        await self._commit.close()

    def require_room(self) -> None:
        """OVERLOADED while as many callers wait here as may.

        More would only make all of them wait longer, past their deadlines in the end: an ingress
        that is asked for twice of what the workers do would answer nobody in time.
        """
        if len(self._waiting) >= self._waiting_max:
            raise errors.ApiError(
                "OVERLOADED",
                f"{self._waiting_max} executions are waited for here already; try again later",
                retry_after_s=1,
            )

    async def submit(self, task: TaskHead, item: ExecuteItem, lane: Lane) -> None:
        """Return when *item* is stored on the bus; nobody waits for its result here."""
        waiter = publisher.Confirmation()
        try:
            self._send(task, (item,), lane, waiter)
            await waiter.future
        except (publisher.BacklogFull, publisher.NotPublished) as error:
            raise _refused(error, task, item) from error

    async def execute(
        self, task: TaskHead, item: ExecuteItem, lane: Lane, *, wait_s: float | None = None
    ) -> ExecutionRecord:
        """The record of *item*. DEADLINE_PASSED when none came before its deadline.

        StillQueued when none came within *wait_s*, where that is shorter. OVERLOADED.
        """
        self.require_room()
        waiter = _Awaited()
        try:
            self.begin(task, item, lane, waiter)
        except publisher.BacklogFull as error:
            raise _refused(error, task, item) from error
        try:
            # Not asyncio.timeout, which would cancel the record itself.
            await asyncio.wait((waiter.record,), timeout=wait_s)
            if not waiter.record.done():
                # The wait may be shorter than the bus takes, and only what is stored is queued.
                await waiter.heard.wait()
            if not waiter.record.done():
                raise StillQueued
            return waiter.record.result()
        finally:
            self.forget(item.id)

    def begin(self, task: TaskHead, item: ExecuteItem, lane: Lane, waiter: Waiter) -> None:
        """Send *item*; *waiter* hears of its record, or of the ApiError that it came to.

        Raises publisher.BacklogFull when too much waits in this process already.
        """
        waiting = _Waiting(self, task, item, waiter)
        try:
            self._send(task, (item,), lane, waiting)
        except publisher.BacklogFull:
            waiting.timer.cancel()
            raise
        self._waiting[item.id] = waiting

    async def begin_alone(
        self, task: TaskHead, item: ExecuteItem, lane: Lane
    ) -> asyncio.Future[ExecutionRecord] | None:
        """Store *item* in a message of its own, once however often it is sent under its id.

        The record to come, or DEADLINE_PASSED; None where it was stored before, and another ingress
        may be the one that is answered. OVERLOADED, BACKLOG_FULL, UNAVAILABLE.
        """
        self.require_room()
        if not is_fresh(item.id):
            raise errors.ApiError("UNAVAILABLE", "the request took too long to be sent; try again")
        waiter = _Awaited()
        self._waiting[item.id] = _Waiting(self, task, item, waiter)
        stored_before: int | None = 0
        try:
            self._queues.require_room(task.tenant)
            stored_before = await publisher.publish(
                self._connection,
                self._queues.subject(lane, task.tenant, task.name),
                codec.EXECUTE.encode(ExecuteBatch(items=(item,), task_id=task.id, validated=True)),
                message_id=item.id,
                headers={subjects.REPLY_TO: self._subject},
            )
        except (publisher.BacklogFull, publisher.NotPublished) as error:
            raise _refused(error, task, item) from error
        finally:
            if stored_before is not None:
                self.forget(item.id)
        return None if stored_before is not None else waiter.record

    def begin_chunk(
        self, task: TaskHead, items: Sequence[ExecuteItem], lane: Lane, ended: Callable[[], None]
    ) -> Chunk:
        """Send *items*, of one message's size at most, together; *ended* is called once, later.

        One entry in a table is all that an item costs: one waiter and one timer serve them all.
        """
        chunk = Chunk(self, task, items, ended)
        self._chunks.update(dict.fromkeys([item.id for item in items], chunk))
        try:
            self._send(task, items, lane, chunk)
        except publisher.BacklogFull as error:
            # Never before this returns: its caller has yet to note the chunk.
            asyncio.get_running_loop().call_soon(chunk.failed, error)
        return chunk

    def forget(self, execution_id: str) -> bool:
        """Whoever waits for this record, begun singly, does so no more; False when nobody did."""
        waiting = self._waiting.pop(execution_id, None)
        if waiting is None:
            return False
        waiting.timer.cancel()
        return True

    def forget_chunk(self, chunk: Chunk) -> None:
        """No record of *chunk* is waited for any more."""
        if len(chunk.records) < len(chunk.items):
            for item in chunk.items:
                self._chunks.pop(item.id, None)

    def _send(
        self, task: TaskHead, items: Sequence[ExecuteItem], lane: Lane, waiter: publisher.Waiter
    ) -> None:
        self._queues.require_room(task.tenant)
        self._commit.submit(
            items, waiter, lane=lane, tenant=task.tenant, task=task.name, task_id=task.id
        )

    async def _answered(self, message: Msg) -> None:
        records = codec.RECORDS.decode(message.data).records
        if records:
            self._commit.answered(records[0].id)
        counts: dict[ExecutionStatus, int] = {}
        for record in records:
            waiting = self._waiting.pop(record.id, None) or self._chunks.pop(record.id, None)
            if waiting is not None:
                counts[record.status] = counts.get(record.status, 0) + 1
                waiting.take(record)
        for status, count in counts.items():
            self._count[status].inc(count)
        if self.parking and len(self._waiting) <= self._waiting_max // 2:
            # Not sooner: who has just been answered comes again, too, and takes the room. The
            # others would be refused as often as anybody is answered.
            self.parking.admit(self._waiting_max - len(self._waiting))


def is_fresh(execution_id: str) -> bool:
    """Whether it was minted within `FRESH_S`."""
    return time.time() - ids.minted_ms(execution_id) / 1000 < FRESH_S


def late(execution_id: str) -> errors.ApiError:
    return errors.ApiError(
        "DEADLINE_PASSED",
        f"no result arrived in time; it may still come: GET /api/v1/executions/{execution_id}",
        execution_id=execution_id,
    )


def _refused(error: Exception, task: TaskHead, item: ExecuteItem) -> errors.ApiError:
    """What a caller is told when the bus did not take *item*."""
    if isinstance(error, publisher.BacklogFull):
        return errors.ApiError(
            "BACKLOG_FULL",
            f"the task {task.name!r} has too much queued work ({error}); try again later",
            retry_after_s=1,
        )
    return errors.ApiError(
        "UNAVAILABLE",
        f"the bus did not confirm the request in time ({error}); it may still run",
        execution_id=item.id,
    )


def item(
    encoded_input: bytes,
    *,
    version: int | None,
    timeout_ms: int,
    force_validation: bool,
    trace_id: str,
    routing_key: str | None,
) -> ExecuteItem:
    """A new item whose id is minted now and whose deadline is *timeout_ms* from now."""
    execution_id = ids.new()
    return ExecuteItem(
        id=execution_id,
        input=encoded_input,
        version=version,
        deadline_ms=ids.minted_ms(execution_id) + timeout_ms,
        force_validation=force_validation,
        trace_id=trace_id,
        routing_key=routing_key,
    )


def items(
    encoded_inputs: Sequence[bytes],
    flagged: Sequence[bool],
    routing_keys: Sequence[str | None],
    *,
    version: int | None,
    timeout_ms: int,
    trace_id: str,
) -> tuple[ExecuteItem, ...]:
    """New items for `begin_chunk`; *flagged* says of each whether validation is forced."""
    now_ms = time.time_ns() // 1_000_000
    minted = ids.several(now_ms, len(encoded_inputs))
    deadline_ms = now_ms + timeout_ms
    return tuple(
        ExecuteItem(
            id=execution_id,
            input=encoded_input,
            version=version,
            deadline_ms=deadline_ms,
            force_validation=force_validation,
            trace_id=trace_id,
            routing_key=routing_key,
        )
        for execution_id, encoded_input, force_validation, routing_key in zip(
            minted, encoded_inputs, flagged, routing_keys, strict=True
        )
    )
