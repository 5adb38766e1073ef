"""From a request to its record: group commit on the way out, one reply subject on the way back."""

import asyncio
import time
from typing import Final

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


class _Answer:
    """One caller that waits for one record."""

    __slots__ = ("future", "stored_", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.future: asyncio.Future[ExecutionRecord | None] = loop.create_future()
        self.stored_ = False
        # Not asyncio.timeout, which takes 3 µs more than a timer that is cancelled.
        self.timer = loop.call_later(seconds, self._expire)

    def stored(self) -> None:
        self.stored_ = True

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def take(self, record: ExecutionRecord) -> None:
        if not self.future.done():
            self.future.set_result(record)

    def _expire(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Dispatcher:
    """Sends items of one ingress process and hands each result to whoever waits for it."""

    def __init__(self, connection: Connection, instance: str, metrics: IngressMetrics) -> None:
        self._connection = connection
        self._subject = subjects.reply(instance)
        self._commit = publisher.GroupCommit(connection, reply_to=self._subject)
        self._waiting: dict[str, _Answer] = {}
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
        left_s = item.deadline_ms / 1000 - time.time() + GRACE_S
        seconds = left_s if wait_s is None else min(wait_s, left_s)
        answer = _Answer(asyncio.get_running_loop(), seconds)
        self._waiting[item.id] = answer
        try:
            self._send(task, item, lane, answer)
            record = await answer.future
        except (publisher.BacklogFull, publisher.NotPublished) as error:
            raise _refused(error, task, item) from error
        finally:
            answer.timer.cancel()
            del self._waiting[item.id]
        if record is not None:
            self._count[record.status].inc()
            return record
        if answer.stored_ and seconds < left_s:
            raise StillQueued
        raise errors.ApiError(
            "DEADLINE_PASSED",
            f"no result arrived in time; it may still come: GET /api/v1/executions/{item.id}",
            execution_id=item.id,
        )

    def _send(
        self, task: TaskHead, item: ExecuteItem, lane: Lane, waiter: publisher.Waiter
    ) -> None:
        self._commit.submit(
            (item,), waiter, lane=lane, tenant=task.tenant, task=task.name, task_id=task.id
        )

    async def _answered(self, message: Msg) -> None:
        for record in codec.RECORDS.decode(message.data).records:
            answer = self._waiting.get(record.id)
            if answer is not None:
                answer.take(record)


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
