"""Executions as events, on a real bus: few of them, and none of the counts lost."""

from datetime import UTC, datetime

import msgspec

from streams import codec, connection, ids, replay
from streams.messages import ExecutionRecord, Latency
from tests.wait import until
from workers import events


def _record(task: str, latency_ms: float = 1.0) -> ExecutionRecord:
    return ExecutionRecord(
        id=ids.new(),
        tenant="default",
        task=task,
        task_id=ids.new(),
        version=1,
        status="success",
        latency_ms=Latency(queue=0, run=0, total=latency_ms),
        worker="executor-1",
        executed_at=datetime.now(UTC),
    )


async def _counts(bus: connection.Connection) -> dict[str, list[int]]:
    """What each event of a task counts."""
    found: dict[str, list[int]] = {}
    async for stored in replay.read(bus, "EVENTS", "loopai.v1.event.>"):
        event = codec.EVENT.decode(stored.payload)
        found.setdefault(event.task, []).append(msgspec.json.decode(event.data)["count"])
    return found


async def test_executions_of_a_moment_are_one_event_of_their_task(
    bus: connection.Connection,
) -> None:
    """A thousand batches within a tenth of a second are shown in one line, not in a thousand."""
    shown = events.Events(bus)
    for _ in range(1000):
        shown.show([_record("a"), _record("a")])
    shown.show([_record("b")])

    async def both_told() -> bool:
        return len(await _counts(bus)) == 2

    await until(both_told)
    assert await _counts(bus) == {"a": [2000], "b": [1]}
    await shown.close()


async def test_what_comes_later_is_another_event(bus: connection.Connection) -> None:
    """Nothing that is shown while an event is on its way is forgotten."""
    shown = events.Events(bus)
    shown.show([_record("a")])

    async def told() -> bool:
        return bool(await _counts(bus))

    await until(told)
    shown.show([_record("a"), _record("a")])
    await shown.close()

    async def told_again() -> bool:
        return len((await _counts(bus))["a"]) == 2

    await until(told_again)
    assert await _counts(bus) == {"a": [1, 2]}


async def test_an_event_tells_the_slowest_and_the_last(bus: connection.Connection) -> None:
    """The sum holds what a monitor draws: statuses, the worst latency, where to look."""
    shown = events.Events(bus)
    records = [_record("a", 3.0), _record("a", 7.5), _record("a", 2.0)]
    shown.show(records)
    await shown.close()

    async def told() -> bool:
        return bool(await _counts(bus))

    await until(told)
    (stored,) = [m async for m in replay.read(bus, "EVENTS", "loopai.v1.event.>")]
    assert msgspec.json.decode(codec.EVENT.decode(stored.payload).data) == {
        "count": 3,
        "statuses": {"success": 3},
        "version": 1,
        "last_execution_id": records[-1].id,
        "latency_ms": 7.5,
        "worker": "executor-1",
    }
