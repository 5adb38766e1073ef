"""Publishing that waits for the broker's word, and group commit: many requests, one message.

Requests for one (lane, tenant, task) that arrive while some of its messages are unanswered travel
together in the next; when none is, a request leaves at the end of the turn of the loop that it came
in, so a lone caller never waits (ADR 0003).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import nats.errors

from streams import acks, codec, fair, subjects, topology
from streams.connection import Connection
from streams.messages import ExecuteBatch, ExecuteItem, Lane

WINDOW: Final = 16
"""Publishes that wait for the broker's word, of all keys together."""
DEPTH_MIN: Final = 2
"""Unanswered messages of one key: a worker runs one while the next is on its way."""
LINGER_S: Final = 0.002
"""How long a request gathers company at most, however long the answers take."""
ATTEMPTS: Final = 3
ATTEMPT_TIMEOUT_S: Final = 3.0
PENDING_BYTES_MAX: Final = 64 * topology.MIB
"""Items, with their overhead, that may wait in this process for the broker's word."""
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
            word = await connection.acks.publish(
                subject, payload, sent, timeout_s=ATTEMPT_TIMEOUT_S
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            if connection.client.is_closed:
                break
            continue
        refusal = word.error
        if refusal is None:
            return word.seq if word.duplicate else None
        if refusal is acks.NO_STREAM.error:
            # JetStream of a broker that restarts is away for a moment.
            reason = "no stream answers; is the broker starting, or `python -m streams apply` due?"
            await asyncio.sleep(0.2 * (attempt + 1))
            continue
        # 503 covers every way of being full: messages, bytes, messages per subject.
        if refusal.code == 503:  # noqa: PLR2004
            raise BacklogFull(refusal.description or "full")
        raise NotPublished(f"{refusal.description} ({refusal.err_code})")
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


class _Batch:
    """One message to be: items of one key, and who is told about which of them."""

    __slots__ = ("cost", "count", "items", "key", "linger", "waiters")

    def __init__(self, key: _Key, linger: asyncio.TimerHandle) -> None:
        self.key = key
        self.linger = linger
        self.items: list[ExecuteItem] = []
        self.waiters: list[Waiter] = []
        self.count = 0
        self.cost = 0

    def has_room(self, count: int, cost: int) -> bool:
        return not self.count or (
            self.count + count <= topology.ITEMS_MAX
            and self.cost + cost <= topology.BATCH_BYTES_MAX
        )

    @property
    def is_full(self) -> bool:
        """Whether one more like those in it would find no room."""
        return not self.has_room(1, self.cost // self.count)

    def add(self, items: Sequence[ExecuteItem], cost: int, waiter: Waiter) -> None:
        self.items.extend(items)
        self.waiters.append(waiter)
        self.count += len(items)
        self.cost += cost


class GroupCommit:
    """Publishes ExecuteItems in ExecuteBatches; *reply_to* is where their results go.

    *subject* says where the executions of a lane, a tenant and a task are to be published.

    Of each key up to `depth()` messages are unanswered; what comes meanwhile gathers for the next,
    as in Nagle's algorithm (RFC 896), for `LINGER_S` at most. So messages grow by themselves when
    workers are busy: sent as soon as the broker had taken the last one, they held 4 of 64 callers'
    requests in front of a slow executor, and each costs it and the bus 1 ms. Tenants, and the tasks
    of each, share the window fairly: a busy one cannot starve a quiet one.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        reply_to: str,
        window: int = WINDOW,
        depth: Callable[[], int] = lambda: DEPTH_MIN,
        subject: Callable[[Lane, str, str], str] = subjects.execute,
    ) -> None:
        self._connection = connection
        self._reply_to = reply_to
        self._window = window
        self._depth = depth
        self._subject = subject
        self._gathering: dict[_Key, _Batch] = {}
        self._ready: fair.FairQueue[_Key, _Batch] = fair.FairQueue()
        self._unanswered: dict[_Key, set[str]] = {}
        """The first items of messages, ready, sent or stored, that no result has come of."""
        self._sent: dict[str, _Key] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._pending_bytes = 0
        self._turn: asyncio.Handle | None = None
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
        if self._pending_bytes >= PENDING_BYTES_MAX:
            raise BacklogFull("too many requests wait to be published")
        key = _Key(lane, tenant, task, task_id)
        cost = sum(map(weight, items))
        batch = self._gathering.get(key)
        if batch is not None and not batch.has_room(len(items), cost):
            self._seal(key)
            self._end_turn_soon()
            batch = None
        if batch is None:
            linger = asyncio.get_running_loop().call_later(LINGER_S, self._linger, key)
            batch = self._gathering[key] = _Batch(key, linger)
        batch.add(items, cost, waiter)
        self._pending_bytes += cost
        if batch.is_full:
            # Nobody can join it: lingering for the answers to earlier ones would gain nothing.
            self._seal(key)
            self._end_turn_soon()
        elif self._may_leave(key):
            self._end_turn_soon()

    def answered(self, item_id: str) -> None:
        """A result has come of the item *item_id*; of the first of a message, it matters here."""
        key = self._sent.pop(item_id, None)
        if key is None:
            return
        unanswered = self._unanswered[key]
        unanswered.discard(item_id)
        if not unanswered:
            del self._unanswered[key]
        if key in self._gathering:
            self._end_turn_soon()

    async def close(self) -> None:
        """Wait until all that was submitted is stored or refused."""
        for key in list(self._gathering):
            self._seal(key)
        self._fill_window()
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _may_leave(self, key: _Key) -> bool:
        return len(self._unanswered.get(key, ())) < self._depth()

    def _end_turn_soon(self) -> None:
        # At the end of this turn of the loop: requests that came in together leave together. Sent
        # at once, the first of 64 left alone.
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._turn = None
        for key in [key for key in self._gathering if self._may_leave(key)]:
            self._seal(key)
        self._fill_window()

    def _linger(self, key: _Key) -> None:
        """It has gathered long enough: what is unanswered is slow, or gone, and holds up nobody."""
        for item_id in self._unanswered.pop(key, ()):
            del self._sent[item_id]
        self._seal(key)
        self._fill_window()

    def _seal(self, key: _Key) -> None:
        """Nothing more goes into the message that gathers for *key*."""
        batch = self._gathering.pop(key)
        batch.linger.cancel()
        self._ready.push(key.tenant, key, batch, batch.cost)
        self._unanswered.setdefault(key, set()).add(batch.items[0].id)
        self._sent[batch.items[0].id] = key

    def _fill_window(self) -> None:
        while self._ready and len(self._in_flight) < self._window:
            task = asyncio.create_task(self._store(self._ready.take()))
            self._in_flight.add(task)
            task.add_done_callback(self._stored)

    def _stored(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._fill_window()

    async def _store(self, batch: _Batch) -> None:
        key = batch.key
        payload = codec.EXECUTE.encode(
            ExecuteBatch(items=tuple(batch.items), task_id=key.task_id, validated=True)
        )
        self.batches += 1
        self.items += batch.count
        error: Exception | None = None
        try:
            await publish(
                self._connection,
                self._subject(key.lane, key.tenant, key.task),
                payload,
                message_id=batch.items[0].id,
                headers={subjects.REPLY_TO: self._reply_to},
            )
        except Exception as reason:  # noqa: BLE001 (every waiter must hear of it, whatever it is)
            error = reason
            self.answered(batch.items[0].id)
        self._pending_bytes -= batch.cost
        for waiter in batch.waiters:
            if error is None:
                waiter.stored()
            else:
                waiter.failed(error)


def weight(item: ExecuteItem) -> int:
    """Bytes that *item* counts for in a message, of `topology.BATCH_BYTES_MAX`."""
    return len(item.input) + len(item.routing_key or "") + ITEM_OVERHEAD_BYTES
