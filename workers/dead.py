"""The last station of a message that cannot be handled: DEAD, with the reason and the original."""

from datetime import UTC, datetime
from typing import Literal

import msgspec
import structlog

from streams import codec, intake, publisher, replay, routing, subjects, topology
from streams import store as kv
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import (
    DeadLetter,
    ExecutionError,
    ExecutionRecord,
    Latency,
    Problem,
    RecordBatch,
)

log = structlog.get_logger()

Reason = Literal["undecodable", "rejected", "max_deliveries"]
UNKNOWN = "unknown"
"""Owner of a message whose subject does not name one."""
_encode_json = msgspec.json.Encoder().encode


async def bury(connection: Connection, delivery: Delivery, reason: Reason, detail: str) -> None:
    """Store *delivery* in DEAD, then tell whoever waits for it. publisher.NotPublished."""
    await store(
        connection,
        replay.Stored(
            subject=delivery.subject,
            sequence=delivery.sequence,
            time=delivery.published_at,
            headers=delivery.headers,
            payload=delivery.payload,
        ),
        stream=delivery.stream,
        reason=reason,
        detail=detail,
        deliveries=delivery.attempt,
    )


async def store(
    connection: Connection,
    message: replay.Stored,
    *,
    stream: str,
    reason: Reason,
    detail: str,
    deliveries: int,
) -> None:
    """The same for a message as it lies in *stream*. Repeating it changes nothing."""
    try:
        tenant, task = subjects.owner(message.subject)
    except ValueError:
        tenant, task = UNKNOWN, UNKNOWN
    lost = await _unrecorded(connection, message, stream, tenant, task)
    letter = DeadLetter(
        stream=stream,
        sequence=message.sequence,
        subject=message.subject,
        reason=reason,
        detail=detail,
        deliveries=deliveries,
        headers=message.headers,
        payload=message.payload,
        execution_ids=lost,
        dead_at=datetime.now(UTC),
    )
    await publisher.publish(
        connection,
        subjects.dead(stream, tenant, task),
        codec.DEAD.encode(letter),
        message_id=f"{stream}:{message.sequence}",
    )
    log.warning(
        "message dead",
        stream=stream,
        sequence=message.sequence,
        tenant=tenant,
        task=task,
        reason=reason,
        detail=detail,
    )
    if stream == topology.GENERATE.name:
        await _fail_operation(connection, letter)
    reply_to = subjects.reply_to(message.headers, tenant)
    if reply_to is not None:
        answer = _answer(letter, tenant, task, as_json=codec.answers_json(message.headers))
        await connection.client.publish(reply_to, answer)


async def _fail_operation(connection: Connection, letter: DeadLetter) -> None:
    """Whoever waits for a generation must learn that it will not come."""
    operations = kv.Bucket(connection, topology.OPERATIONS, codec.OPERATION)
    try:
        operation_id = codec.GENERATE.decode(letter.payload).operation_id
        entry = await operations.get(operation_id)
    except codec.Undecodable:
        return
    if entry is not None:
        failed = msgspec.structs.replace(
            entry.value,
            status="failed",
            stage="",
            message=letter.detail,
            error=Problem(code="INTERNAL", message=letter.detail),
            updated_at=letter.dead_at,
        )
        await operations.put(operation_id, failed)


async def _unrecorded(
    connection: Connection, message: replay.Stored, stream: str, tenant: str, task: str
) -> tuple[str, ...]:
    """Ids of the executions that end here: those in *message* that no earlier delivery recorded."""
    if stream != topology.EXECUTE.name:
        return ()
    try:
        batch = intake.batch(
            message.headers, message.payload, sequence=message.sequence, published_at=message.time
        )
    except codec.Undecodable:
        return ()
    wanted = {item.id for item in batch.items}
    since = routing.recorded_since(message.subject, message.headers) or message.time
    done = await replay.recorded(connection, tenant=tenant, task=task, wanted=wanted, since=since)
    return tuple(item.id for item in batch.items if item.id not in done)


def _answer(letter: DeadLetter, tenant: str, task: str, *, as_json: bool) -> bytes:
    error = ExecutionError(type="dead_letter", message=f"{letter.reason}: {letter.detail}")
    if as_json:
        execution_id = next(iter(letter.execution_ids), None)
        return _encode_json({"id": execution_id, "status": "error", "error": error})
    records = tuple(
        ExecutionRecord(
            id=execution_id,
            tenant=tenant,
            task=task,
            task_id="",
            status="error",
            error=error,
            latency_ms=Latency(queue=0.0, run=0.0, total=0.0),
            attempt=letter.deliveries,
            executed_at=letter.dead_at,
        )
        for execution_id in letter.execution_ids
    )
    return codec.RECORDS.encode(RecordBatch(records=records))
