"""Publishing that waits for the broker's word, and group commit: many requests, one message.

Requests for one (lane, tenant, task) that arrive while `window` publishes are in flight travel
together in the next message; with a free place in the window a request leaves at once, so a lone
caller never waits (ADR 0003).
"""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
import nats.errors
import nats.js.errors

from streams import codec, fair, subjects, topology
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


class Waiter(Protocol):
    """Whoever is told what becomes of items that were submitted together."""

    def stored(self) -> None:
        """They are on the bus."""

    def failed(self, error: Exception) -> None:
        """They are not, or nobody knows: BacklogFull, NotPublished."""


class Confirmation:
    """A Waiter to be awaited, by its `future`."""

    def __init__(self) -> None:
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def stored(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Key(NamedTuple):
    lane: Lane
    tenant: str
    task: str
    task_id: str


class _Entry(msgspec.Struct, frozen=True):
    items: Sequence[ExecuteItem]
    count: int
    cost: int
    waiter: Waiter


class GroupCommit:
    """Publishes ExecuteItems in ExecuteBatches; *reply_to* is where their results go.

    Tenants, and the tasks of each, share the window fairly: a busy one cannot starve a quiet one.
    """

    def __init__(self, connection: Connection, *, reply_to: str, window: int = WINDOW) -> None:
        self._connection = connection
        self._reply_to = reply_to
        self._window = window
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pending: fair.FairQueue[_Key, _Entry] = fair.FairQueue()
        self._flush: asyncio.Handle | None = None
        self.batches = 0
        self.items = 0

    def submit(
        self,
        items: Sequence[ExecuteItem],
        waiter: Waiter,
        *,
        lane: Lane,
        tenant: str,
        task: str,
        task_id: str,
    ) -> None:
        """Publish *items*, of one message's size at most, in one message; then tell *waiter*, once.

        Raises BacklogFull when too much waits already.
        """
        if self._pending.cost >= PENDING_BYTES_MAX:
            raise BacklogFull("too many requests wait to be published")
        entry = _Entry(items, len(items), sum(map(weight, items)), waiter)
        self._pending.push(tenant, _Key(lane, tenant, task, task_id), entry)
        # At the end of this turn of the loop: requests that came in together leave together. Sent
        # at once, 64 callers made batches of 1, 1, 1, 1 and 60 instead of one of 64.
        if self._flush is None and len(self._in_flight) < self._window:
            self._flush = asyncio.get_running_loop().call_soon(self._fill_window)

    async def close(self) -> None:
        """Wait until all that was submitted is stored or refused."""
        self._fill_window()
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _fill_window(self) -> None:
        self._flush = None
        while self._pending and len(self._in_flight) < self._window:
            key, batch = self._pending.take(
                count_max=topology.ITEMS_MAX, cost_max=topology.BATCH_BYTES_MAX
            )
            task = asyncio.create_task(self._store(key, batch))
            self._in_flight.add(task)
            task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._fill_window()

    async def _store(self, key: _Key, batch: list[_Entry]) -> None:
        items = tuple(item for entry in batch for item in entry.items)
        payload = codec.EXECUTE.encode(
            ExecuteBatch(items=items, task_id=key.task_id, validated=True)
        )
        self.batches += 1
        self.items += len(items)
        try:
            await publish(
                self._connection,
                subjects.execute(key.lane, key.tenant, key.task),
                payload,
                message_id=items[0].id,
                headers={subjects.REPLY_TO: self._reply_to},
            )
        except Exception as error:  # noqa: BLE001 (every waiter must hear of it, whatever it is)
            for entry in batch:
                entry.waiter.failed(error)
        else:
            for entry in batch:
                entry.waiter.stored()


def weight(item: ExecuteItem) -> int:
    """Bytes that *item* counts for in a message, of `topology.BATCH_BYTES_MAX`."""
    return len(item.input) + ITEM_OVERHEAD_BYTES
