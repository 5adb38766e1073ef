"""Reading streams by time, task and id, while they grow."""

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from streams import codec, connection, ids, publisher, replay, subjects
from streams.messages import (
    DeadLetter,
    ExecuteBatch,
    ExecuteItem,
    ExecutionRecord,
    Latency,
    RecordBatch,
)


def _record(execution_id: str, task: str = "t", tenant: str = "default") -> ExecutionRecord:
    return ExecutionRecord(
        id=execution_id,
        tenant=tenant,
        task=task,
        task_id="id",
        input=b"1",
        status="success",
        latency_ms=Latency(queue=0, run=0, total=0),
        executed_at=datetime.now(UTC),
    )


async def _write(bus: connection.Connection, *records: ExecutionRecord) -> None:
    batch = codec.RECORDS.encode(RecordBatch(records=records))
    subject = subjects.record(records[0].tenant, records[0].task)
    await publisher.publish(bus, subject, batch, message_id=records[0].id)


async def test_records_come_in_order_across_many_reads(bus: connection.Connection) -> None:
    """More messages than one read holds come complete and in order."""
    wanted = [ids.new() for _ in range(replay.BATCH * 2 + 3)]
    await asyncio.gather(*(_write(bus, _record(i)) for i in wanted[:-1]))
    await _write(bus, _record(wanted[-1]))

    found = [r.id async for r in replay.records(bus, tenant="default")]

    assert sorted(found) == sorted(wanted)
    assert found[-1] == wanted[-1]


async def test_many_readers_do_not_cost_the_connection(bus: connection.Connection) -> None:
    """The broker cuts off whom it has 64 MiB for: they are read one after the other."""
    lost: list[None] = []
    bus.on_reconnect.append(lambda: lost.append(None))
    large = msgspec.structs.replace(_record(ids.new()), input=b"1" * 1_900_000)
    for _ in range(8):
        await _write(bus, msgspec.structs.replace(large, id=ids.new()))

    wanted = {ids.new()}
    looks = [replay.recorded(bus, tenant="default", task=None, wanted=wanted) for _ in range(40)]

    assert await asyncio.gather(*looks) == [{}] * 40
    assert not lost


async def test_a_reader_waits_for_its_turn_but_not_for_ever(
    bus: connection.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others read keeps nobody for longer than the limit; then there are turns again."""
    monkeypatch.setattr(replay, "TURN_S", 0.05)
    await _write(bus, mine := _record(ids.new()))
    async with contextlib.AsyncExitStack() as others:
        for _ in range(connection.READS_MAX):
            await others.enter_async_context(bus.reads)
        with pytest.raises(replay.ReplayFailed, match="at once"):
            await anext(replay.records(bus, tenant="default"))
    assert [r async for r in replay.records(bus, tenant="default")] == [mine]


async def test_tasks_and_tenants_are_kept_apart(bus: connection.Connection) -> None:
    """A filter on one task shows that task only, and never another tenant's of the same name."""
    await _write(bus, a := _record(ids.new(), "a"))
    await _write(bus, b := _record(ids.new(), "b.c"))
    await _write(bus, _record(ids.new(), "a", tenant="other"))

    assert [r async for r in replay.records(bus, tenant="default", task="a")] == [a]
    assert [r async for r in replay.records(bus, tenant="default", task="b.c")] == [b]
    assert [r async for r in replay.records(bus, tenant="default")] == [a, b]
    assert [r async for r in replay.records(bus, tenant="nobody")] == []


async def test_reading_begins_at_a_time(bus: connection.Connection) -> None:
    """Older messages are not even read."""
    await _write(bus, _record(ids.new()))
    await asyncio.to_thread(time.sleep, 0.01)
    since = datetime.now(UTC)
    await _write(bus, late := _record(ids.new()))

    assert [r async for r in replay.records(bus, tenant="default", since=since)] == [late]
    future = since + timedelta(hours=1)
    assert [r async for r in replay.records(bus, tenant="default", since=future)] == []


async def test_following_shows_what_comes_later(bus: connection.Connection) -> None:
    """A follower gets the past and then the future."""
    await _write(bus, first := _record(ids.new()))
    reading = replay.records(bus, tenant="default", follow=True)
    async with contextlib.aclosing(reading) as records, asyncio.timeout(5):
        assert await anext(records) == first
        coming = asyncio.ensure_future(anext(records))
        await _write(bus, second := _record(ids.new()))
        assert await coming == second


async def test_ids_are_found_by_their_time(bus: connection.Connection) -> None:
    """Those that are recorded are found, in whichever message; the others are absent."""
    known = [ids.new() for _ in range(5)]
    await _write(bus, *(_record(i) for i in known[:3]))
    await _write(bus, *(_record(i) for i in known[3:]))
    unknown = ids.new()

    found = await replay.recorded(bus, tenant="default", task="t", wanted={*known, unknown})

    assert found.keys() == set(known)


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_queued_execution_is_found(bus: connection.Connection, as_json: bool) -> None:
    """Accepted and not yet recorded: it is in EXECUTE, in either form."""
    queued, other = ids.new(), ids.new()
    item = ExecuteItem(id=queued, input=b"1", deadline_ms=1)
    payload = codec.EXECUTE.encode(ExecuteBatch(items=(item,)))
    headers = {}
    if as_json:
        payload = b'{"input": 1, "id": "%s"}' % queued.encode()
        headers = {"Content-Type": "application/json"}
    subject = subjects.execute("bulk", "default", "t")
    await publisher.publish(bus, subject, b"\xc1 not a batch", message_id="bad")
    await publisher.publish(bus, subject, payload, message_id=queued, headers=headers)

    assert await replay.is_queued(bus, tenant="default", execution_id=queued)
    assert not await replay.is_queued(bus, tenant="default", execution_id=other)
    assert not await replay.is_queued(bus, tenant="other", execution_id=queued)


async def test_a_dead_execution_is_found(bus: connection.Connection) -> None:
    """The dead letter that holds an execution is found by the execution's id."""
    dead = ids.new()
    letter = DeadLetter(
        stream="EXECUTE",
        sequence=1,
        subject="s",
        reason="max_deliveries",
        detail="d",
        deliveries=5,
        execution_ids=(dead,),
        dead_at=datetime.now(UTC),
    )
    subject = subjects.dead("EXECUTE", "default", "t")
    await publisher.publish(bus, subject, codec.DEAD.encode(letter), message_id="1")

    assert await replay.dead(bus, tenant="default", execution_id=dead) == letter
    assert await replay.dead(bus, tenant="default", execution_id=ids.new()) is None
    assert await replay.dead(bus, tenant="other", execution_id=dead) is None


async def test_a_missing_stream_is_an_error_not_an_empty_one(bus: connection.Connection) -> None:
    """No answer must never look like no records."""
    with pytest.raises(replay.ReplayFailed, match="no such stream"):
        async for _ in replay.read(bus, "NOSUCH", ">"):
            pass
