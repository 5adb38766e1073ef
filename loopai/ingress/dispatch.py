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


class Dispatcher:
    """Sends items of one ingress process and hands each result to whoever waits for it."""

    def __init__(self, connection: Connection, instance: str, metrics: IngressMetrics) -> None:
        self._connection = connection
        self._subject = subjects.reply(instance)
        self._commit = publisher.GroupCommit(connection, reply_to=self._subject)
        self._waiting: dict[str, asyncio.Future[ExecutionRecord]] = {}
        self._metrics = metrics
        metrics.batches_of(self._commit)

    async def start(self) -> None:
        await self._connection.client.subscribe(
            self._subject, cb=self._answered, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def close(self) -> None:
        await self._commit.close()

    async def submit(self, task: TaskHead, item: ExecuteItem, lane: Lane) -> None:
        """Return when *item* is stored on the bus; nobody waits for its result here."""
        try:
            await self._commit.submit(
                item, lane=lane, tenant=task.tenant, task=task.name, task_id=task.id
            )
        except publisher.BacklogFull as error:
            raise errors.ApiError(
                "BACKLOG_FULL",
                f"the task {task.name!r} has too much queued work ({error}); try again later",
                retry_after_s=1,
            ) from error
        except publisher.NotPublished as error:
            raise errors.ApiError(
                "UNAVAILABLE",
                f"the bus did not confirm the request in time ({error}); it may still run",
                execution_id=item.id,
            ) from error

    async def execute(
        self, task: TaskHead, item: ExecuteItem, lane: Lane, *, wait_s: float | None = None
    ) -> ExecutionRecord:
        """The record of *item*. DEADLINE_PASSED when none came before its deadline.

        StillQueued when none came within *wait_s*, where that is shorter.
        """
        answer: asyncio.Future[ExecutionRecord] = asyncio.get_running_loop().create_future()
        left_s = item.deadline_ms / 1000 - time.time() + GRACE_S
        stored = False
        self._waiting[item.id] = answer
        self._metrics.waiting.inc()
        try:
            async with asyncio.timeout(left_s if wait_s is None else min(wait_s, left_s)):
                await self.submit(task, item, lane)
                stored = True
                record = await answer
        except TimeoutError as error:
            if stored and wait_s is not None and wait_s < left_s:
                raise StillQueued from error
            raise errors.ApiError(
                "DEADLINE_PASSED",
                f"no result arrived in time; it may still come: GET /api/v1/executions/{item.id}",
                execution_id=item.id,
            ) from error
        finally:
            del self._waiting[item.id]
            self._metrics.waiting.dec()
        self._metrics.executions.labels(record.status).inc()
        return record

    async def _answered(self, message: Msg) -> None:
        for record in codec.RECORDS.decode(message.data).records:
            answer = self._waiting.get(record.id)
            if answer is not None and not answer.done():
                answer.set_result(record)


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
