"""From a request to its record: group commit on the way out, one reply subject on the way back."""

import asyncio
import time
from typing import Final, Protocol

from nats.aio.msg import Msg

from loopai import errors
from loopai.observe.metrics import IngressMetrics
from streams import codec, ids, publisher, subjects
from streams.connection import Connection
from streams.messages import ExecuteItem, ExecutionRecord, Lane, TaskHead

GRACE_S: Final = 0.5
"""How long past its deadline an answer is waited for: a timeout is reported at the deadline."""


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
        self.is_stored = False

    def stored(self) -> None:
        self.is_stored = True

    def failed(self, error: Exception) -> None:
        if not self.record.done():
            self.record.set_exception(error)

    def take(self, record: ExecutionRecord) -> None:
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

    def _expire(self) -> None:
        if self._owner.forget(self.item.id):
            self.waiter.failed(_late(self.item))


class Dispatcher:
    """Sends items of one ingress process and hands each result to whoever waits for it."""

    def __init__(self, connection: Connection, instance: str, metrics: IngressMetrics) -> None:
        self._connection = connection
        self._subject = subjects.reply(instance)
        self._commit = publisher.GroupCommit(connection, reply_to=self._subject)
        self._waiting: dict[str, _Waiting] = {}
        self._count = metrics.execution_counts()
        metrics.batches_of(self._commit)
        metrics.waiting.set_function(lambda: len(self._waiting))

    async def start(self) -> None:
        await self._connection.client.subscribe(
            self._subject, cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def close(self) -> None:
        await self._commit.close()

    async def submit(self, task: TaskHead, item: ExecuteItem, lane: Lane) -> None:
        """Return when *item* is stored on the bus; nobody waits for its result here."""
        waiter = publisher.Confirmation()
        try:
            self._send(task, item, lane, waiter)
            await waiter.future
        except (publisher.BacklogFull, publisher.NotPublished) as error:
            raise _refused(error, task, item) from error

    async def execute(
        self, task: TaskHead, item: ExecuteItem, lane: Lane, *, wait_s: float | None = None
    ) -> ExecutionRecord:
        """The record of *item*. DEADLINE_PASSED when none came before its deadline.

        StillQueued when none came within *wait_s*, where that is shorter.
        """
        waiter = _Awaited()
        try:
            self.begin(task, item, lane, waiter)
        except publisher.BacklogFull as error:
            raise _refused(error, task, item) from error
        try:
            async with asyncio.timeout(wait_s):
                return await waiter.record
        except TimeoutError as error:
            if waiter.is_stored:
                raise StillQueued from error
            raise _late(item) from error
        finally:
            self.forget(item.id)

    def begin(self, task: TaskHead, item: ExecuteItem, lane: Lane, waiter: Waiter) -> None:
        """Send *item*; *waiter* hears of its record, or of the ApiError that it came to.

        Raises publisher.BacklogFull when too much waits in this process already.
        """
        waiting = _Waiting(self, task, item, waiter)
        try:
            self._send(task, item, lane, waiting)
        except publisher.BacklogFull:
            waiting.timer.cancel()
            raise
        self._waiting[item.id] = waiting

    def forget(self, execution_id: str) -> bool:
        """Whoever waits for this record does so no more; False when nobody did."""
        waiting = self._waiting.pop(execution_id, None)
        if waiting is None:
            return False
        waiting.timer.cancel()
        return True

    def _send(
        self, task: TaskHead, item: ExecuteItem, lane: Lane, waiter: publisher.Waiter
    ) -> None:
        self._commit.submit(
            (item,), waiter, lane=lane, tenant=task.tenant, task=task.name, task_id=task.id
        )

    async def _answered(self, message: Msg) -> None:
        records = codec.RECORDS.decode(message.data).records
        if records:
            self._commit.answered(records[0].id)
        for record in records:
            waiting = self._waiting.pop(record.id, None)
            if waiting is not None:
                waiting.timer.cancel()
                self._count[record.status].inc()
                waiting.waiter.take(record)


def _late(item: ExecuteItem) -> errors.ApiError:
    return errors.ApiError(
        "DEADLINE_PASSED",
        f"no result arrived in time; it may still come: GET /api/v1/executions/{item.id}",
        execution_id=item.id,
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
    )
