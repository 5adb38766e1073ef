"""Ordered reads of a stream by time, by subject and by execution id, without any consumer.

Reads go through JetStream's batched direct get, so they leave nothing behind on the broker, work
on work queues too, and can be repeated; a replay is at least once.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import nats.errors

from streams import codec, intake, messages, subjects, topology
from streams.connection import Connection

BATCH: Final = 256
BATCH_BYTES_MAX: Final = 8 * 1024 * 1024
SILENCE_S: Final = 5.0
FOLLOW_S: Final = 0.2
"""How often a follower looks for more."""
CLOCK_SKEW: Final = timedelta(seconds=5)
"""How far the clock that minted an id may be ahead of the broker's."""
ACCEPT: Final = timedelta(seconds=60)
"""How long after its id was minted an execution may reach the EXECUTE stream."""


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
) -> AsyncIterator[Stored]:
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
            await connection.client.publish(
                f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox
            )
            more = False
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
                    more = status == "204" and int(headers.get("Nats-Num-Pending", 0)) > 0
                    break
                stored = _stored(headers, message.data)
                start = {"seq": stored.sequence + 1}
                yield stored
            if not more:
                if not follow:
                    return
                await asyncio.sleep(FOLLOW_S)
    finally:
        if not connection.client.is_closed:
            await subscription.unsubscribe()


async def records(
    connection: Connection,
    *,
    tenant: str,
    task: str | None = None,
    since: datetime | None = None,
    follow: bool = False,
) -> AsyncIterator[messages.ExecutionRecord]:
    """The audit log of a task, or of all tasks of *tenant*, oldest first; see `read`."""
    async for stored in read(
        connection,
        topology.RECORDS.name,
        subjects.records(tenant, task),
        since=since,
        follow=follow,
    ):
        for record in codec.RECORDS.decode(stored.payload).records:
            yield record


async def recorded(
    connection: Connection, *, tenant: str, task: str | None, ids: set[str]
) -> dict[str, messages.ExecutionRecord]:
    """Records of *ids* (UUIDv7), by id; those that are not recorded are absent.

    Starts at the oldest id's time, so it costs what was recorded since then, not what ever was.
    """
    since = min(_minted(each) for each in ids) - CLOCK_SKEW
    found: dict[str, messages.ExecutionRecord] = {}
    async for record in records(connection, tenant=tenant, task=task, since=since):
        if record.id in ids:
            found[record.id] = record
            if len(found) == len(ids):
                break
    return found


async def is_queued(connection: Connection, *, tenant: str, execution_id: str) -> bool:
    """Whether *execution_id* (a UUIDv7) is accepted and not yet recorded."""
    minted = _minted(execution_id)
    async for stored in read(
        connection,
        topology.EXECUTE.name,
        subjects.execute_tenant(tenant),
        since=minted - CLOCK_SKEW,
    ):
        if stored.time > minted + ACCEPT:
            break
        try:
            batch = intake.batch(
                stored.headers, stored.payload, sequence=stored.sequence, published_at=stored.time
            )
        except codec.Undecodable:
            continue
        if any(item.id == execution_id for item in batch.items):
            return True
    return False


async def dead(
    connection: Connection, *, tenant: str, execution_id: str
) -> messages.DeadLetter | None:
    """The dead letter that holds *execution_id* (a UUIDv7), if there is one."""
    since = _minted(execution_id) - CLOCK_SKEW
    async for stored in read(
        connection, topology.DEAD.name, subjects.dead_tenant(tenant), since=since
    ):
        letter = codec.DEAD.decode(stored.payload)
        if execution_id in letter.execution_ids:
            return letter
    return None


def _minted(execution_id: str) -> datetime:
    """The time in a UUIDv7 (RFC 9562). ValueError when it is anything else."""
    parsed = uuid.UUID(execution_id)
    if parsed.version != 7:  # noqa: PLR2004
        raise ValueError(f"not a UUIDv7: {execution_id}")
    return datetime.fromtimestamp((parsed.int >> 80) / 1000, UTC)


def _stored(headers: dict[str, str], payload: bytes) -> Stored:
    return Stored(
        subject=headers["Nats-Subject"],
        sequence=int(headers["Nats-Sequence"]),
        time=datetime.fromisoformat(headers["Nats-Time-Stamp"]),
        headers={k: v for k, v in headers.items() if not k.startswith("Nats-")},
        payload=payload,
    )
