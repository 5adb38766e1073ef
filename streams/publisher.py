"""Publishing that waits for the broker's word, and group commit: many requests, one message.

Requests for one (lane, tenant, task) that arrive while `window` publishes are in flight travel
together in the next message; with a free place in the window a request leaves at once, so a lone
caller never waits (ADR 0003).
"""

import asyncio
from collections import deque
from typing import Final, NamedTuple

import nats.errors
import nats.js.errors

from streams import codec, subjects, topology
from streams.connection import Connection
from streams.messages import ExecuteBatch, ExecuteItem, Lane

WINDOW: Final = 4
"""Publishes in flight: one waits for the broker while others are encoded and written."""
ATTEMPTS: Final = 3
ATTEMPT_TIMEOUT_S: Final = 3.0
PENDING_BYTES_MAX: Final = 64 * topology.MIB
"""Items, with their overhead, that may wait in this process for a place in the window."""
ITEM_OVERHEAD_BYTES: Final = 200
"""What an item weighs beside its input: ids, deadline, trace."""


class BacklogFull(Exception):  # noqa: N818 (it says what is the matter)
    """The stream, or the queue of this task in it, holds as much as it may."""


class NotPublished(Exception):  # noqa: N818 (it says what is the matter)
    """The broker did not confirm in time: the message may or may not be stored."""


async def publish(
    connection: Connection,
    subject: str,
    payload: bytes,
    *,
    message_id: str,
    headers: dict[str, str] | None = None,
) -> int | None:
    """Store *payload* on *subject*, once: *message_id* makes repeating it safe.

    The sequence of the message that the stream had under that id already, which may be an earlier
    attempt of ours; else None.

    Raises BacklogFull when the stream refuses it, NotPublished when three attempts of 3 s got no
    word or no stream captures the subject.
    """
    sent = {subjects.MESSAGE_ID: message_id, **(headers or {})}
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            stored = await connection.jetstream.publish(
                subject, payload, timeout=ATTEMPT_TIMEOUT_S, headers=sent
            )
        except nats.js.errors.NoStreamResponseError:
            # JetStream of a broker that restarts is away for a moment.
            reason = "no stream answers; is the broker starting, or `python -m streams apply` due?"
            await asyncio.sleep(0.2 * (attempt + 1))
        except nats.js.errors.APIError as error:
            # 503 covers every way of being full: messages, bytes, messages per subject.
            if error.code == 503:  # noqa: PLR2004
                raise BacklogFull(error.description or "full") from error
            raise NotPublished(f"{error.description} ({error.err_code})") from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            if connection.client.is_closed:
                break
        else:
            return stored.seq if stored.duplicate else None
    raise NotPublished(reason)


class _Key(NamedTuple):
    lane: Lane
    tenant: str
    task: str
    task_id: str


class _Pending(NamedTuple):
    item: ExecuteItem
    stored: asyncio.Future[None]


class GroupCommit:
    """Publishes ExecuteItems in ExecuteBatches; *reply_to* is where their results go.

    Between keys the window is shared round-robin, so a busy task cannot starve a quiet one.
    """

    def __init__(self, connection: Connection, *, reply_to: str, window: int = WINDOW) -> None:
        self._connection = connection
        self._reply_to = reply_to
        self._window = window
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pending: dict[_Key, deque[_Pending]] = {}
        self._pending_bytes = 0
        self.batches = 0
        self.items = 0

    async def submit(
        self, item: ExecuteItem, *, lane: Lane, tenant: str, task: str, task_id: str
    ) -> None:
        """Return when *item* is stored. Raises BacklogFull or NotPublished like `publish`."""
        if self._pending_bytes >= PENDING_BYTES_MAX:
            raise BacklogFull("too many requests wait to be published")
        pending = _Pending(item, asyncio.get_running_loop().create_future())
        self._pending.setdefault(_Key(lane, tenant, task, task_id), deque()).append(pending)
        self._pending_bytes += _weight(pending)
        self._fill_window()
        await pending.stored

    async def close(self) -> None:
        """Wait until all that was submitted is stored or refused."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _fill_window(self) -> None:
        while self._pending and len(self._in_flight) < self._window:
            # A dict keeps order: the first key is the one served longest ago.
            key = next(iter(self._pending))
            waiting = self._pending.pop(key)
            batch = _take(waiting)
            if waiting:
                self._pending[key] = waiting
            self._pending_bytes -= sum(_weight(each) for each in batch)
            task = asyncio.create_task(self._store(key, batch))
            self._in_flight.add(task)
            task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._fill_window()

    async def _store(self, key: _Key, batch: list[_Pending]) -> None:
        payload = codec.EXECUTE.encode(
            ExecuteBatch(
                items=tuple(each.item for each in batch), task_id=key.task_id, validated=True
            )
        )
        self.batches += 1
        self.items += len(batch)
        error: Exception | None = None
        try:
            await publish(
                self._connection,
                subjects.execute(key.lane, key.tenant, key.task),
                payload,
                message_id=batch[0].item.id,
                headers={subjects.REPLY_TO: self._reply_to},
            )
        except Exception as reason:  # noqa: BLE001 (every waiter must hear of it, whatever it is)
            error = reason
        for each in batch:
            if each.stored.done():  # its caller went away
                continue
            if error is None:
                each.stored.set_result(None)
            else:
                each.stored.set_exception(error)


def _take(waiting: deque[_Pending]) -> list[_Pending]:
    """The next batch: at least one item, within ITEMS_MAX and BATCH_BYTES_MAX."""
    batch = [waiting.popleft()]
    size = _weight(batch[0])
    while waiting and len(batch) < topology.ITEMS_MAX:
        size += _weight(waiting[0])
        if size > topology.BATCH_BYTES_MAX:
            break
        batch.append(waiting.popleft())
    return batch


def _weight(pending: _Pending) -> int:
    return len(pending.item.input) + ITEM_OVERHEAD_BYTES
