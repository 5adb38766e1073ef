"""Executions that their worker cannot run move on to those that can (ADR 0009).

The copy is the same batch on a subject of the runtime that it needs. It is stored before the
original is acknowledged: at any moment at least one of the two is in EXECUTE.
"""

import contextlib
from datetime import UTC, datetime

from streams import codec, publisher, replay, subjects, topology
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import ExecuteBatch, Runtime


async def forward(
    connection: Connection, delivery: Delivery, batch: ExecuteBatch, runtime: Runtime
) -> None:
    """Store *batch*, which *delivery* asks for, where workers that have *runtime* take it.

    Repeating it stores it once. publisher.BacklogFull, publisher.NotPublished.
    """
    headers = {subjects.ROUTED_FROM: str(delivery.sequence)}
    tenant, _ = subjects.owner(delivery.subject)
    reply_to = subjects.reply_to(delivery.headers, tenant)
    if reply_to is not None:
        headers[subjects.REPLY_TO] = reply_to
        if codec.answers_json(delivery.headers):
            headers[subjects.REPLY_TYPE] = codec.JSON_CONTENT_TYPE
    since = recorded_since(delivery.subject, delivery.headers)
    if since is None and delivery.attempt > 1:
        since = delivery.published_at
    if since is not None:
        headers[subjects.RECORDED_SINCE] = since.astimezone(UTC).isoformat()
    await publisher.publish(
        connection,
        subjects.routed(runtime, delivery.subject),
        codec.EXECUTE.encode(batch),
        # The sequence tells originals apart, the id keeps it from being guessed by a publisher.
        message_id=f"routed:{runtime}:{delivery.sequence}:{batch.items[0].id}",
        headers=headers,
    )


async def is_forwarded(connection: Connection, delivery: Delivery) -> bool:
    """Whether the copy of *delivery*, which came before, waits for a worker of its runtime.

    A copy that is done with is in RECORDS: look there afterwards.
    """
    tenant, task = subjects.owner(delivery.subject)
    subject = subjects.routed_task(tenant, task)
    reading = replay.read(connection, topology.EXECUTE.name, subject, since=delivery.published_at)
    async with contextlib.aclosing(reading) as copies:
        async for copy in copies:
            if copy.headers.get(subjects.ROUTED_FROM) == str(delivery.sequence):
                return True
    return False


def recorded_since(subject: str, headers: dict[str, str]) -> datetime | None:
    """Since when items of a routed message may be recorded, before it was published even.

    None where only the message itself can tell.
    """
    told = headers.get(subjects.RECORDED_SINCE)
    if told is None or not subjects.is_routed(subject):
        return None
    try:
        return datetime.fromisoformat(told)
    except ValueError:  # not one of ours
        return None
