"""From the bus to deliveries: what webhooks are told is read only while one wants to be told it.

Each feed has a durable consumer, made when the first webhook asks for its kind of event and deleted
when none does, so that nobody's executions cost anything for the webhooks that they have not.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import msgspec
import nats.errors
import nats.js.api as js
import nats.js.errors
import structlog

from loopai.catalog import mirror
from loopai.webhooks import happenings, subscriptions
from streams import codec, consumer, ending, publisher, store, subjects, topology
from streams.connection import Connection
from streams.messages import TaskHead, Webhook, WebhookEvent

log = structlog.get_logger()

SLOTS: Final = 64
"""Messages of one feed that are made into deliveries at once."""
ENSURE_S: Final = 30.0
"""How often it is made sure that the consumer is still there."""
RETRY_S: Final = 1.0
PUBLISHES_MAX: Final = 64
"""Deliveries of one message on their way to the queue at once."""

_TRANSIENT: Final = (publisher.NotPublished, store.StoreUnavailable)


class Known:
    """The subscriptions and the tasks, in memory. Start with `start`, end with `stop`."""

    def __init__(self, connection: Connection) -> None:
        self.version = 0
        """Grows with each change of a subscription."""
        self._changed = asyncio.Event()
        self._tasks: dict[str, str] = {}
        self.webhooks = mirror.Mirror(
            connection,
            topology.SUBSCRIPTIONS,
            codec.WEBHOOK,
            on_change=self._webhook_changed,
        )
        self._heads = mirror.Mirror(
            connection, topology.TASKS, codec.TASK_HEAD, on_change=self._task_changed
        )

    async def start(self) -> None:
        await self._heads.start()
        await self.webhooks.start()

    async def stop(self) -> None:
        await self.webhooks.stop()
        await self._heads.stop()

    def all(self) -> Iterable[Webhook]:
        return (entry.value for entry in self.webhooks.entries.values())

    async def task(self, task_id: str) -> TaskHead | None:
        """None where it was deleted."""
        if task_id not in self._tasks:
            await self._heads.settle()
        entry = self._heads.entries.get(self._tasks.get(task_id, ""))
        return entry.value if entry is not None and entry.value.id == task_id else None

    def since(self, kinds: frozenset[WebhookEvent]) -> datetime | None:
        """From when on somebody wants to be told of *kinds*; None: nobody does."""
        return min(
            (each.since for each in self.all() if each.enabled and kinds & set(each.events)),
            default=None,
        )

    async def change(self, seen: int, within_s: float) -> None:
        """Return when there is another version than *seen*, or after so long."""
        if self.version != seen:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()

    def _webhook_changed(self, _: store.Change[Webhook]) -> None:
        self.version += 1
        # Those who wait hear of it, each once, whoever of them looks first.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _task_changed(self, change: store.Change[TaskHead]) -> None:
        if change.value is not None:
            self._tasks[change.value.id] = change.key
        else:
            self._tasks = {i: key for i, key in self._tasks.items() if key != change.key}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of message, and what it tells."""

    name: str
    stream: str
    filter_subject: str
    kinds: frozenset[WebhookEvent]

    @property
    def consumer(self) -> topology.Consumer:
        return topology.Consumer(
            durable=f"notifier-{self.name}",
            stream=self.stream,
            filter_subject=self.filter_subject,
            ack_wait_s=30.0,
            max_deliver=-1,
            max_ack_pending=4 * SLOTS,
        )


RECORDS: Final = Source(
    name="records",
    stream=topology.RECORDS.name,
    filter_subject=subjects.RECORD_ALL,
    kinds=frozenset({"execution.succeeded", "execution.failed", "execution.cancelled"}),
)
DEAD: Final = Source(
    name="dead",
    stream=topology.DEAD.name,
    filter_subject=subjects.dead_all("EXECUTE"),
    kinds=frozenset({"execution.failed"}),
)
ARTIFACTS: Final = Source(
    name="artifacts",
    stream=topology.ARTIFACTS.stream,
    filter_subject=f"$KV.{topology.ARTIFACTS.name}.>",
    kinds=frozenset({"artifact.created"}),
)
ROLLOUTS: Final = Source(
    name="rollouts",
    stream=topology.ROLLOUTS.stream,
    filter_subject=f"$KV.{topology.ROLLOUTS.name}.>",
    kinds=frozenset({"artifact.activated", "artifact.rolled_back"}),
)
OPERATIONS: Final = Source(
    name="operations",
    stream=topology.OPERATIONS.stream,
    filter_subject=f"$KV.{topology.OPERATIONS.name}.>",
    kinds=frozenset({"operation.finished"}),
)
SOURCES: Final = (RECORDS, DEAD, ARTIFACTS, ROLLOUTS, OPERATIONS)


class Feed:
    """Reads *source* while somebody wants to be told of it. Run it with `run`."""

    def __init__(
        self, connection: Connection, known: Known, source: Source, dropped: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._known = known
        self._source = source
        self._subscriptions = subscriptions.Subscriptions(connection)
        self._dropped = dropped
        self._publishing = asyncio.Semaphore(PUBLISHES_MAX)

    async def run(self) -> None:
        """Until it is cancelled."""
        reading: asyncio.Task[None] | None = None
        try:
            while True:
                seen = self._known.version
                try:
                    reading = await self._follow(reading)
                except (nats.errors.Error, store.StoreUnavailable, TimeoutError) as error:
                    log.warning("feed not kept", feed=self._source.name, reason=str(error))
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._known.change(seen, ENSURE_S)
        finally:
            if reading is not None:
                await ending.end(reading)

    async def _follow(self, reading: asyncio.Task[None] | None) -> asyncio.Task[None] | None:
        """Begin or stop to read, as the subscriptions are now."""
        since = self._known.since(self._source.kinds)
        if since is None:
            # What memory has not seen yet must not lose its events.
            await self._known.webhooks.settle()
            since = self._known.since(self._source.kinds)
        if since is not None:
            await self._ensure(since)
            if reading is not None and not reading.done():
                return reading
            return asyncio.create_task(self._read())
        if reading is not None:
            await ending.end(reading)
        with contextlib.suppress(nats.js.errors.NotFoundError):
            await self._connection.jetstream.delete_consumer(
                self._source.stream, self._source.consumer.durable
            )
        return None

    async def _ensure(self, since: datetime) -> None:
        spec = self._source.consumer
        stream = self._connection.jetstream
        try:
            await stream.consumer_info(spec.stream, spec.durable)
        except nats.js.errors.NotFoundError:
            config = js.ConsumerConfig(
                # By its name the subject asks for it with its filter, which rights can tell apart.
                name=spec.durable,
                durable_name=spec.durable,
                filter_subject=spec.filter_subject,
                ack_policy=js.AckPolicy.EXPLICIT,
                ack_wait=spec.ack_wait_s,
                max_deliver=spec.max_deliver,
                max_ack_pending=spec.max_ack_pending,
                deliver_policy=js.DeliverPolicy.BY_START_TIME,
                opt_start_time=since,
            )
            with contextlib.suppress(nats.js.errors.BadRequestError):  # a colleague was faster
                await stream.add_consumer(spec.stream, config)

    async def _read(self) -> None:
        opened = consumer.Consumer(self._connection, self._source.consumer, slots=SLOTS)
        async with opened as taken, asyncio.TaskGroup() as group:
            async for delivery in taken:
                group.create_task(self._settle(delivery)).add_done_callback(
                    lambda _: taken.release()
                )

    async def _settle(self, delivery: consumer.Delivery) -> None:
        try:
            await self._tell(delivery)
        except asyncio.CancelledError:
            # The next notifier, or the next feed, should have it at once.
            await asyncio.shield(delivery.nak(0))
            raise
        except _TRANSIENT as error:
            log.info("delivery given back", feed=self._source.name, reason=str(error))
            await delivery.nak(RETRY_S)
        except Exception:
            # One odd message must not end the feed for all.
            log.exception("message not understood", feed=self._source.name)
            await delivery.ack()
        else:
            await delivery.ack()

    async def _tell(self, delivery: consumer.Delivery) -> None:
        try:
            found = await _read(self._known, self._source, delivery)
        except (codec.Undecodable, ValueError) as error:
            # Who may publish may publish rubbish: it must not hide what lies behind it.
            log.warning("message not told", feed=self._source.name, reason=str(error))
            return
        if not found:
            return
        # Who subscribed before this happened is known then, however far memory lags.
        await self._known.webhooks.settle()
        wanted = [
            self._send(happening, webhook)
            for happening in found
            for webhook in list(self._known.all())
            if happenings.wants(webhook, happening, delivery.published_at)
        ]
        await asyncio.gather(*wanted)

    async def _send(self, happening: happenings.Happening, webhook: Webhook) -> None:
        made = happenings.delivery(happening, webhook)
        try:
            async with self._publishing:
                await self._subscriptions.send(webhook.tenant, made, message_id=made.id)
        except publisher.BacklogFull as error:
            # Its own fault, and to wait would hold up everybody else's.
            self._dropped()
            log.warning("event dropped", webhook=webhook.id, reason=str(error))


async def _read(
    known: Known, source: Source, delivery: consumer.Delivery
) -> list[happenings.Happening]:
    """What *delivery* of *source* tells. Undecodable, ValueError."""
    if not delivery.payload:
        return []  # a deleted key
    match source.name:
        case "records":
            batch = codec.RECORDS.decode(delivery.payload)
            return [happenings.of_record(record) for record in batch.records]
        case "dead":
            letter = codec.DEAD.decode(delivery.payload)
            return happenings.of_dead(letter, *subjects.owner(delivery.subject))
        case "operations":
            return happenings.of_operation(codec.OPERATION.decode(delivery.payload))
        case "artifacts":
            artifact = codec.ARTIFACT.decode(delivery.payload)
            task = await known.task(artifact.task_id)
            return [] if task is None else [happenings.of_artifact(artifact, task)]
    rollout = codec.ROLLOUT.decode(delivery.payload)
    task = await known.task(rollout.task_id)
    return [] if task is None else happenings.of_rollout(rollout, delivery.sequence, task)
