"""Audit before answer: records are stored, then whoever waits is told, then comes the ack."""

from collections.abc import Iterator, Sequence

import msgspec

from loopai import errors, views
from streams import codec, publisher, replay, subjects
from streams.connection import Connection
from streams.consumer import Delivery
from streams.messages import ExecutionRecord, RecordBatch
from workers import events

MESSAGE_BYTES_MAX = 2 * 1024 * 1024
"""Records of one message, unless a single one is larger."""
RECORD_OVERHEAD_BYTES = 600
INPUTS_BYTES_MAX = 32 * 1024
"""Inputs that go back with an answer; larger ones do not."""

_encode_json = msgspec.json.Encoder().encode


async def record(
    connection: Connection,
    records: Sequence[ExecutionRecord],
    *,
    message_id: str,
    shown: events.Events,
) -> list[ExecutionRecord]:
    """Store *records*, all of one task, and have them *shown* once. publisher.NotPublished.

    Returns them as RECORDS has them: what was stored under *message_id* before stands.
    """
    tenant, task = records[0].tenant, records[0].task
    kept: list[ExecutionRecord] = []
    for number, (part, payload) in enumerate(_messages(records)):
        name = f"{message_id}:{number}" if number else message_id
        earlier = await publisher.publish(
            connection,
            subjects.record(tenant, task),
            payload,
            # Ids are the publishers' choice: one in use by another task must not hide a record.
            message_id=f"{tenant}.{task}:{name}",
        )
        if earlier is not None:
            kept += await _kept(connection, part, earlier, message_id=name, shown=shown)
            continue
        kept += part
        shown.show(part)
    return kept


async def _kept(
    connection: Connection,
    part: Sequence[ExecutionRecord],
    sequence: int,
    *,
    message_id: str,
    shown: events.Events,
) -> list[ExecutionRecord]:
    """*part* as RECORDS has it, when the broker took ours for a repetition of *sequence*.

    It mostly is one: of our own publish, or by a worker that was slow. But where a publisher used
    the first id of a batch in another one, the other items have no record yet.
    """
    earlier = {each.id: each for each in await replay.records_at(connection, sequence)}
    kept: list[ExecutionRecord] = []
    for each in part:
        if each.id in earlier:
            kept.append(earlier[each.id])
        elif message_id == each.id:
            raise errors.Transient(f"{each.id} cannot be recorded: its id is taken")
        else:
            kept += await record(connection, (each,), message_id=each.id, shown=shown)
    return kept


async def reply(
    connection: Connection, delivery: Delivery, records: Sequence[ExecutionRecord]
) -> None:
    """Send *records* where *delivery* asks for them, in the form that it came in; if it does."""
    reply_to = subjects.reply_to(delivery.headers, records[0].tenant)
    if reply_to is None:
        return
    if codec.answers_json(delivery.headers):
        for each in records:
            await connection.client.publish(reply_to, _encode_json(views.past(each)))
        return
    # The caller knows what it sent; to take a few bytes out costs more than to send them.
    if sum(len(each.input or b"") for each in records) > INPUTS_BYTES_MAX:
        records = [msgspec.structs.replace(each, input=None) for each in records]
    for payload in payloads(records):
        await connection.client.publish(reply_to, payload)


def payloads(records: Sequence[ExecutionRecord]) -> Iterator[bytes]:
    """*records* encoded, in one message where they fit."""
    return (payload for _, payload in _messages(records))


def _messages(
    records: Sequence[ExecutionRecord],
) -> Iterator[tuple[Sequence[ExecutionRecord], bytes]]:
    """The same, each payload with what is in it."""
    payload = codec.RECORDS.encode(RecordBatch(records=tuple(records)))
    if len(payload) <= MESSAGE_BYTES_MAX:
        yield records, payload
        return
    for part in _parts(records):
        yield part, codec.RECORDS.encode(RecordBatch(records=tuple(part)))


def _parts(records: Sequence[ExecutionRecord]) -> Iterator[list[ExecutionRecord]]:
    part: list[ExecutionRecord] = []
    size = 0
    for each in records:
        weight = len(each.input or b"") + len(each.output or b"") + len(each.stdout)
        weight += RECORD_OVERHEAD_BYTES + _error_bytes(each)
        if part and size + weight > MESSAGE_BYTES_MAX:
            yield part
            part, size = [], 0
        part.append(each)
        size += weight
    yield part


def _error_bytes(record: ExecutionRecord) -> int:
    return len(record.error.message) + len(record.error.traceback) if record.error else 0
