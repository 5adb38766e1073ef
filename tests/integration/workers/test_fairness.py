"""Fairness of a whole executor: what one asks for delays nobody else, whatever it is."""

import asyncio
from collections import Counter

from streams import codec, ids, publisher, replay, subjects
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionRecord, Lane
from tests.system import System
from tests.wait import until
from workers import executor

BUSY, QUIET = "busy", "quiet"
SLOW = "def run(input):\n    sum(range(2_500_000))\n    return input\n"
"""Some 50 ms of work: programs may not import what would let them sleep."""


async def _publish(
    system: System, task: str, number: int, tenant: str = "default", lane: Lane = "interactive"
) -> None:
    async def one(n: int) -> None:
        item = ExecuteItem(id=ids.new(), input=b'"%d"' % n, deadline_ms=2**52)
        await publisher.publish(
            system.bus,
            subjects.execute(lane, tenant, task),
            codec.EXECUTE.encode(ExecuteBatch(items=(item,))),
            message_id=item.id,
        )

    await asyncio.gather(*(one(n) for n in range(number)))


async def _waiting(system: System, lane: Lane = "interactive") -> int:
    """Messages of the busy task that are not done with."""
    subject = subjects.queued_task(lane, "default", BUSY)
    return len([each async for each in replay.read(system.bus, "EXECUTE", subject)])


async def _records(system: System) -> list[ExecutionRecord]:
    found = [each async for each in replay.read(system.bus, "RECORDS", subjects.RECORD_ALL)]
    return [record for each in found for record in codec.RECORDS.decode(each.payload).records]


async def test_a_caller_does_not_wait_behind_a_backlog(system: System) -> None:
    """500 messages of one task are queued; a call of another is answered among the first."""
    assert subjects.queue("default", BUSY) != subjects.queue("default", QUIET)
    await system.create(BUSY)
    await system.create(QUIET)
    await system.stop_pool(executor)
    await _publish(system, BUSY, 500)
    calling = asyncio.create_task(system.execute("hello", QUIET))
    subject = subjects.queued_task("interactive", "default", QUIET)

    async def queued() -> bool:
        return [each async for each in replay.read(system.bus, "EXECUTE", subject)] != []

    await until(queued)
    await system.start_pool(executor, executor_slots=1)

    assert (await calling).json()["output"] == "HELLO"
    assert await _waiting(system) > 400


async def test_a_caller_does_not_wait_behind_bulk(system: System) -> None:
    """Bulk of slow programs takes the slots that it may, and leaves some."""
    await system.create(BUSY, code=SLOW)
    await system.create(QUIET)
    await system.execute("warm", QUIET)
    slow = (await system.execute("warm", BUSY)).json()
    assert (slow["status"], slow["latency_ms"] > 10) == ("success", True)
    await _publish(system, BUSY, 200, lane="bulk")

    answer = await system.execute("hello", QUIET)

    assert answer.json()["output"] == "HELLO"
    assert await _waiting(system, "bulk") > 20


async def test_tenants_share_by_weight(system: System) -> None:
    """Of the first records three are of the one for each of the other."""
    assert subjects.queue("north", "t")[0] != subjects.queue("south", "t")[0]
    await system.stop_pool(executor)
    for tenant in ("north", "south"):
        await _publish(system, "t", 60, tenant=tenant)
    await system.start_pool(executor, executor_slots=2, tenant_weights="north=3")

    async def recorded() -> bool:
        return len(await _records(system)) == 120

    await until(recorded)
    first = Counter(record.tenant for record in (await _records(system))[:60])
    assert 40 <= first["north"] <= 48


async def test_what_waits_for_a_slot_goes_back_when_a_worker_stops(system: System) -> None:
    """Another worker has it at once, not after the lease of ten seconds."""
    await system.create(BUSY, code=SLOW)
    assert (await system.execute("warm", BUSY)).json()["status"] == "success"
    await system.stop_pool(executor)
    await _publish(system, BUSY, 8)
    await system.start_pool(executor, "first", executor_slots=4, task_running_max=1)

    async def begun() -> bool:
        return len(await _records(system)) > 1

    await until(begun)
    await system.stop_pool(executor, "first")
    await system.start_pool(executor, "second")

    async def recorded() -> bool:
        return len(await _records(system)) == 9

    await until(recorded, within_s=8)
    found = await _records(system)
    assert len({record.id for record in found}) == 9
    assert {record.status for record in found} == {"success"}
