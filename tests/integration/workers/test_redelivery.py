"""Second deliveries, exhausted deliveries, lost leases: every execution ends once."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from loopai.embedded.broker import Broker
from streams import codec, connection, consumer, ids, publisher, replay, subjects, topology
from streams.messages import (
    Cancellation,
    ExecuteBatch,
    ExecuteItem,
    ExecutionRecord,
    GenerateRequest,
)
from tests import queue
from tests.system import System
from tests.wait import until
from workers import answers, events, executor, generator, recorder, runtime, verdict


def _batch(*values: str) -> ExecuteBatch:
    return ExecuteBatch(
        items=tuple(
            ExecuteItem(id=ids.new(), input=msgspec.json.encode(v), deadline_ms=2**52)
            for v in values
        )
    )


async def _store(bus: connection.Connection, batch: ExecuteBatch) -> None:
    await publisher.publish(
        bus,
        subjects.execute("interactive", "default", "upper"),
        codec.EXECUTE.encode(batch),
        message_id=batch.items[0].id,
    )


async def _take(bus: connection.Connection) -> consumer.Delivery:
    """Take the next delivery away from the executors, as one of them that will crash."""
    spec = queue.python()
    async with consumer.Consumer(bus, spec, slots=1) as taken:
        return await anext(aiter(taken))


async def _audit(bus: connection.Connection) -> list[ExecutionRecord]:
    return [r async for r in replay.records(bus, tenant="default")]


async def test_a_second_delivery_runs_what_is_not_recorded_one_by_one(system: System) -> None:
    """The first worker recorded two of five and crashed: the second records the other three."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("a", "b", "c", "d", "e")
    await _store(system.bus, batch)
    crashed = await _take(system.bus)
    await system.start_pool(executor)
    first = await _record(system, crashed, batch.items[:2])
    await crashed.nak(0)

    async def all_recorded() -> bool:
        return len(await _audit(system.bus)) >= 5

    await until(all_recorded)
    records = await _audit(system.bus)
    assert sorted(r.id for r in records) == sorted(i.id for i in batch.items)
    assert {r.id for r in records if r.attempt == 1} == {r.id for r in first}
    assert {r.output for r in records} == {b'"A"', b'"B"', b'"C"', b'"D"', b'"E"'}


async def _record(
    system: System, delivery: consumer.Delivery, items: Sequence[ExecuteItem]
) -> list[ExecutionRecord]:
    """Record *items* as a first worker did before it crashed."""
    order = verdict.Order(
        tenant="default",
        task="upper",
        batch=ExecuteBatch(items=tuple(items)),
        attempt=delivery.attempt,
    )
    verdicts = [verdict.Verdict(status="success", output=item.input.upper()) for item in items]
    crashed = verdict.Pass(order=order, worker="crashed", started_us=0)
    records = crashed.records(items, verdicts, None, now_us=time.time_ns() // 1000)
    shown = events.Events(system.bus)
    await answers.record(system.bus, records, message_id=f"batch:{items[0].id}", shown=shown)
    await shown.close()
    return records


async def test_a_cancellation_leaves_the_record_that_there_is(system: System) -> None:
    """Of a batch that is delivered again, only what is not recorded yet can be cancelled."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("a", "b")
    await _store(system.bus, batch)
    crashed = await _take(system.bus)
    await _record(system, crashed, batch.items[:1])
    asked = Cancellation(tenant="default", requested_at=datetime.now(UTC))
    for item in batch.items:
        await system.services.cancellations.put(item.id, asked)
    await system.start_pool(executor)
    await crashed.nak(0)

    async def all_recorded() -> bool:
        return len(await _audit(system.bus)) >= 2

    await until(all_recorded)
    ended = [(r.id, r.status, r.worker) for r in await _audit(system.bus)]
    assert ended == [
        (batch.items[0].id, "success", "crashed"),
        (batch.items[1].id, "cancelled", "executor-test"),
    ]


async def test_a_crash_between_record_and_ack_repeats_nothing(system: System) -> None:
    """Recorded but not acknowledged: the next delivery answers from the audit."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("a", "b")
    await _store(system.bus, batch)
    crashed = await _take(system.bus)
    first = await _record(system, crashed, batch.items)
    await crashed.nak(0)
    await system.start_pool(executor)

    async def acknowledged() -> bool:
        return (await system.bus.jetstream.stream_info("EXECUTE")).state.messages == 0

    await until(acknowledged)
    assert [r.id for r in await _audit(system.bus)] == [r.id for r in first]


async def test_a_first_worker_that_was_only_slow_is_not_recorded_beside_the_second(
    system: System,
) -> None:
    """Both ran the whole batch; the stream keeps the record of whoever came first."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("a", "b", "c")
    await _store(system.bus, batch)
    slow = await _take(system.bus)
    await slow.nak(0)
    await system.start_pool(executor)

    async def recorded() -> bool:
        return len(await _audit(system.bus)) == 3

    await until(recorded)
    await _record(system, slow, batch.items)

    assert {r.attempt for r in await _audit(system.bus)} == {2}
    assert len(await _audit(system.bus)) == 3


async def test_a_clock_that_is_ahead_hides_no_record(system: System) -> None:
    """What was recorded is looked for from the message's time on, whatever its ids say."""
    await system.create()
    await system.stop_pool(executor)
    ahead_ms = ids.minted_ms(ids.new()) + 3_600_000
    items = tuple(
        ExecuteItem(id=ids.at(ahead_ms, b"%10d" % n), input=b'"a"', deadline_ms=2**52)
        for n in range(3)
    )
    await _store(system.bus, ExecuteBatch(items=items))
    crashed = await _take(system.bus)
    first = await _record(system, crashed, items[:1])
    await crashed.nak(0)
    await system.start_pool(executor)

    async def acknowledged() -> bool:
        return (await system.bus.jetstream.stream_info("EXECUTE")).state.messages == 0

    await until(acknowledged)
    records = await _audit(system.bus)
    assert sorted(r.id for r in records) == sorted(i.id for i in items)
    assert {r.attempt for r in records if r.id != first[0].id} == {2}


async def test_from_the_third_delivery_on_items_go_one_by_one(system: System) -> None:
    """Each item is recorded by itself, so that what a poisonous one leaves behind stays done."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("a", "b", "c")
    await _store(system.bus, batch)
    for _ in range(2):
        await (await _take(system.bus)).nak(0)
    await system.start_pool(executor)

    async def recorded() -> bool:
        return len(await _audit(system.bus)) == 3

    await until(recorded)
    messages = [m async for m in replay.read(system.bus, "RECORDS", subjects.RECORD_ALL)]
    assert [len(codec.RECORDS.decode(m.payload).records) for m in messages] == [1, 1, 1]


async def test_a_message_that_exhausts_its_deliveries_goes_to_dead(system: System) -> None:
    """Whatever kills its workers ends in DEAD with its ids, and leaves its stream."""
    await system.create()
    await system.stop_pool(executor)
    batch = _batch("poison")
    await _store(system.bus, batch)
    for _ in range(topology.MAX_DELIVER):
        await (await _take(system.bus)).nak(0)
    # One more pull, as by the next healthy worker, makes the broker give up.
    await system.start_pool(executor)

    async def dead() -> bool:
        found = await replay.dead(system.bus, tenant="default", execution_id=batch.items[0].id)
        return found is not None and found.reason == "max_deliveries"

    await until(dead)

    async def gone() -> bool:
        return (await system.bus.jetstream.stream_info("EXECUTE")).state.messages == 0

    await until(gone)
    assert await _audit(system.bus) == []
    answer = await system.http.get(f"/api/v1/executions/{batch.items[0].id}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (200, "dead_letter")


async def test_advisories_wait_for_the_recorder(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> None:
    """Nobody was there to see the broker give up: the recorder that comes later still does."""
    async with contextlib.AsyncExitStack() as stack:
        system = await System.started(stack, broker, bus, tmp_path / "d", pools=(executor,))
        await system.create()
        await system.stop_pool(executor)
        batch = _batch("poison")
        await _store(bus, batch)
        for _ in range(topology.MAX_DELIVER):
            await (await _take(bus)).nak(0)
        await system.start_pool(executor)

        async def advised() -> bool:
            return (await bus.jetstream.stream_info("ADVISORIES")).state.messages == 1

        await until(advised)
        assert await replay.dead(bus, tenant="default", execution_id=batch.items[0].id) is None

        await system.start_pool(recorder)

        async def dead() -> bool:
            found = await replay.dead(bus, tenant="default", execution_id=batch.items[0].id)
            return found is not None

        await until(dead)


async def test_a_recorder_that_fails_for_long_buries_in_the_end(system: System) -> None:
    """An advisory is not given up: the message that it is about has nobody else to move it."""
    await system.create()
    await system.stop_pool(executor)
    await system.stop_pool(recorder)
    batch = _batch("poison")
    await _store(system.bus, batch)
    for _ in range(topology.MAX_DELIVER):
        await (await _take(system.bus)).nak(0)
    await system.start_pool(executor)
    for _ in range(topology.MAX_DELIVER + 1):
        async with (
            asyncio.timeout(15),
            consumer.Consumer(system.bus, topology.RECORDER, slots=1) as taken,
        ):
            await (await anext(aiter(taken))).nak(0)
    await system.start_pool(recorder)

    async def dead() -> bool:
        found = await replay.dead(system.bus, tenant="default", execution_id=batch.items[0].id)
        return found is not None

    await until(dead)


async def test_a_generation_that_dies_fails_its_operation(system: System) -> None:
    """Whoever waits for a program is told that none will come."""
    await system.create()
    await system.stop_pool(generator)
    operation = (await system.http.post("/api/v1/tasks/upper/generate")).json()
    for _ in range(topology.MAX_DELIVER):
        async with consumer.Consumer(system.bus, topology.GENERATOR, slots=1) as taken:
            await (await anext(aiter(taken))).nak(0)
    await system.start_pool(generator)

    answer = await system.http.get(f"/api/v1/operations/{operation['id']}?wait=15")

    assert answer.json()["status"] == "failed"
    assert answer.json()["error"]["code"] == "INTERNAL"


async def test_a_generation_whose_operation_cannot_be_read_is_buried(system: System) -> None:
    """Telling the operation of its end must not keep the message from its own."""
    operation_id = ids.new()
    await system.bus.jetstream.publish(f"$KV.operations.{operation_id}", b"of another make")
    request = GenerateRequest(
        operation_id=operation_id, task_id="t", requested_at=datetime.now(UTC)
    )
    subject = subjects.generate("default", "upper")
    await publisher.publish(
        system.bus, subject, codec.GENERATE.encode(request), message_id=operation_id
    )

    async def gone() -> bool:
        return (await system.bus.jetstream.stream_info("GENERATE")).state.messages == 0

    await until(gone)
    assert (await system.bus.jetstream.stream_info("DEAD")).state.messages == 1


async def test_a_generator_that_lost_its_message_writes_nothing(system: System) -> None:
    """The operation and the next version belong to whoever has the message now."""
    examples = [{"input": f"{n}", "output": f"{n}"} for n in range(40)]
    await system.create(examples=examples)
    await system.stop_pool(generator)
    operation = (await system.http.post("/api/v1/tasks/upper/generate")).json()
    host = runtime.Host(settings=system.settings, connection=system.bus, instance="late")
    brief = msgspec.structs.replace(topology.GENERATOR, ack_wait_s=0.1)
    async with (
        generator.opened(host) as pool,
        consumer.Consumer(system.bus, brief, slots=1) as taken,
    ):
        late = await anext(aiter(taken))
        await until(lambda: not late.leased)

        with pytest.raises(runtime.LeaseLost):
            await pool.handle(late)

    assert (await system.http.get(f"/api/v1/operations/{operation['id']}")).json() == operation
    versions = (await system.http.get("/api/v1/tasks/upper/artifacts")).json()
    assert [each["version"] for each in versions["artifacts"]] == [1]


async def test_conservation_under_random_redelivery(system: System) -> None:
    """A thief takes deliveries away and gives them back: every item still ends exactly once."""
    await system.create()
    stop = asyncio.Event()

    async def steal() -> None:
        spec = queue.python()
        async with consumer.Consumer(system.bus, spec, slots=2) as taken:
            async for delivery in taken:
                if stop.is_set():
                    await delivery.nak(0)
                    return
                await delivery.nak(0.02)
                taken.release()

    thief = asyncio.create_task(steal())
    answered = []
    for start in range(0, 400, 100):
        answered += await asyncio.gather(
            *(system.execute(f"t{n}") for n in range(start, start + 100))
        )
    stop.set()
    thief.cancel()
    await asyncio.gather(thief, return_exceptions=True)

    accepted = {a.json()["id"] for a in answered}
    recorded = [r.id for r in await _audit(system.bus)]
    dead = [
        execution_id
        async for m in replay.read(system.bus, "DEAD", subjects.DEAD_ALL)
        for execution_id in codec.DEAD.decode(m.payload).execution_ids
    ]
    assert len(recorded + dead) == len(set(recorded + dead))
    assert set(recorded + dead) == accepted
    assert len(accepted) == 400
