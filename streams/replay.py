"""Ordered reads of a stream by time, by subject and by execution id, without any consumer.

Reads go through JetStream's batched direct get, so they leave nothing behind on the broker, work
on work queues too, and can be repeated; a replay is at least once.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import nats.errors
from nats.aio.subscription import Subscription

from streams import codec, ids, intake, messages, subjects, topology
from streams.connection import READS_MAX, Connection

log = logging.getLogger(__name__)

BATCH: Final = 256
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
BROKER_PENDING_BYTES: Final = 64 * 1024 * 1024
"""What nats-server holds for one connection, `max_pending`, before it takes it for dead."""
TURN_S: Final = 10.0
"""How long a reader waits for its turn to ask."""
SILENCE_S: Final = 5.0
FOLLOW_S: Final = 0.2
"""How often a follower looks for more."""
CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far the clock that minted an id may be ahead of the broker's."""
ACCEPT: Final = timedelta(seconds=60)
"""How long after its id was minted an execution may reach the EXECUTE stream."""

if 2 * READS_MAX * BATCH_BYTES_MAX > BROKER_PENDING_BYTES:
    raise topology.TopologyError("what is read at once must leave room for everything else")


class ReplayFailed(Exception):  # noqa: N818 (it says what is the matter)
    """The broker stopped answering in the middle of a read."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a stream."""

    subject: str
    sequence: int
    time: datetime
    headers: dict[str, str]
    payload: bytes


async def read(
    connection: Connection,
    stream: str,
    subject: str,
    *,
    since: datetime | None = None,
    sequence: int = 1,
    follow: bool = False,
) -> AsyncGenerator[Stored, None]:
    """Messages on *subject* (wildcards allowed) from *since* or *sequence* on, oldest first.

    Ends at the last one, unless *follow*. ReplayFailed when the broker is silent for 5 s.
    """
    inbox = connection.client.new_inbox()
    subscription = await connection.client.subscribe(inbox)
    start: dict[str, str | int] = (
        {"start_time": since.astimezone(UTC).isoformat()} if since else {"seq": sequence}
    )
    try:
        while True:
            request = start | {
                "batch": BATCH, "max_bytes": BATCH_BYTES_MAX, "next_by_subj": subject
            }  # fmt: skip
            async with _turn(connection, stream):
                await connection.client.publish(
                    f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox
                )
                found, more = await _batch(subscription, stream)
            for stored in found:
                start = {"seq": stored.sequence + 1}
                yield stored
            if not more:
                if not follow:
                    return
                await asyncio.sleep(FOLLOW_S)
    finally:
        if not connection.client.is_closed:
            await subscription.unsubscribe()


@contextlib.asynccontextmanager
async def _turn(connection: Connection, stream: str) -> AsyncIterator[None]:
    """Others wait meanwhile: the broker cuts off a connection that it has too much for."""
    try:
        async with asyncio.timeout(TURN_S):
            await connection.reads.acquire()
    except TimeoutError as error:
        raise ReplayFailed(f"{stream}: too many read from the broker at once") from error
    try:
        yield
    finally:
        connection.reads.release()


async def _batch(subscription: Subscription, stream: str) -> tuple[list[Stored], bool]:
    """What one request is answered with, and whether there is more. ReplayFailed."""
    found: list[Stored] = []
    while True:
        try:
            message = await subscription.next_msg(timeout=SILENCE_S)
        except (nats.errors.Error, TimeoutError) as error:
            raise ReplayFailed(f"{stream}: no answer from the broker") from error
        headers = message.headers or {}
        status = headers.get("Status")
        if status is not None and "Nats-Sequence" not in headers:
            if status == "503":
                raise ReplayFailed(f"{stream}: no such stream, or JetStream is away")
            return found, status == "204" and int(headers.get("Nats-Num-Pending", 0)) > 0
        found.append(_stored(headers, message.data))


async def records(
    connection: Connection,
    *,
    tenant: str,
    task: str | None = None,
    since: datetime | None = None,
    follow: bool = False,
    shadow: bool = False,
) -> AsyncGenerator[messages.ExecutionRecord, None]:
    """The audit log of a task, or of all tasks of *tenant*, oldest first; see `read`.

    With *shadow* the runs of shadow versions instead, which are not part of it.
    """
    subject = (subjects.shadows if shadow else subjects.records)(tenant, task)
    reading = read(connection, topology.RECORDS.name, subject, since=since, follow=follow)
    async with contextlib.aclosing(reading) as stored:
        async for message in stored:
            try:
                batch = codec.RECORDS.decode(message.payload)
            except codec.Undecodable as error:
                # Whoever may publish may publish rubbish: it must not hide what lies behind it.
                log.warning("%s %d: %s", topology.RECORDS.name, message.sequence, error)
                continue
            for record in batch.records:
                yield record


async def recorded(
    connection: Connection,
    *,
    tenant: str,
    task: str | None,
    wanted: set[str],
    since: datetime | None = None,
) -> dict[str, messages.ExecutionRecord]:
    """Records of *wanted* (UUIDv7), by id; those that are not recorded are absent.

    Starts at *since*, by the broker's clock, or else at the time of the oldest id: it costs what
    was recorded since then, not what ever was.
    """
    if since is None:
        since = min(ids.minted_at(each) for each in wanted) - CLOCK_SKEW
    found: dict[str, messages.ExecutionRecord] = {}
    reading = records(connection, tenant=tenant, task=task, since=since)
    async with contextlib.aclosing(reading) as recent:
        async for record in recent:
            if record.id in wanted:
                found[record.id] = record
                if len(found) == len(wanted):
                    break
    return found


async def records_at(connection: Connection, sequence: int) -> tuple[messages.ExecutionRecord, ...]:
    """The records of one message of RECORDS, as its leader has it: replicas may lag behind."""
    try:
        message = await connection.jetstream.get_msg(topology.RECORDS.name, sequence)
        return codec.RECORDS.decode(message.data or b"").records
    except (nats.errors.Error, TimeoutError, codec.Undecodable) as error:
        raise ReplayFailed(f"{topology.RECORDS.name} {sequence}: {error}") from error


async def is_queued(connection: Connection, *, tenant: str, execution_id: str) -> bool:
    """Whether *execution_id* (a UUIDv7) is accepted and not yet recorded."""
    minted = ids.minted_at(execution_id)
    # In this order: what has left the first subject on its way is on the second one already. A
    # message may be routed at any time after its acceptance.
    for subject, until in (
        (subjects.queued_tenant(tenant), minted + ACCEPT),
        (subjects.routed_tenant(tenant), None),
    ):
        reading = read(connection, topology.EXECUTE.name, subject, since=minted - CLOCK_SKEW)
        async with contextlib.aclosing(reading) as queued:
            async for message in queued:
                if until is not None and message.time > until:
                    break
                if _asks_for(message, execution_id):
                    return True
    return False


async def dead(
    connection: Connection, *, tenant: str, execution_id: str
) -> messages.DeadLetter | None:
    """The dead letter that holds *execution_id* (a UUIDv7), if there is one."""
    since = ids.minted_at(execution_id) - CLOCK_SKEW
    subject = subjects.dead_tenant(tenant)
    reading = read(connection, topology.DEAD.name, subject, since=since)
    async with contextlib.aclosing(reading) as letters:
        async for message in letters:
            try:
                letter = codec.DEAD.decode(message.payload)
            except codec.Undecodable as error:
                log.warning("%s %d: %s", topology.DEAD.name, message.sequence, error)
                continue
            if execution_id in letter.execution_ids:
                return letter
    return None


def _asks_for(message: Stored, execution_id: str) -> bool:
    try:
        batch = intake.batch(
            message.headers, message.payload, sequence=message.sequence, published_at=message.time
        )
    except codec.Undecodable:
        return False
    return any(item.id == execution_id for item in batch.items)


def _stored(headers: dict[str, str], payload: bytes) -> Stored:
    return Stored(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        time=datetime.fromisoformat(headers["Nats-Time-Stamp"]),
        headers={k: v for k, v in headers.items() if not k.startswith("Nats-")},
        payload=payload,
    )
