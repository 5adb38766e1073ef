"""Programs in languages that not every worker has: each execution finds one that has it, once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loopai import errors
from loopai.embedded.broker import Broker
from streams import (
    codec,
    connection,
    consumer,
    ids,
    provision,
    publisher,
    replay,
    routing,
    subjects,
    topology,
)
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionRecord, Language
from tests import queue
from tests.system import UPPER, System
from tests.wait import until
from workers import executor, recorder

SCRIPT = "export function run(input) { return input.toUpperCase(); }\n"
PLAIN, BOTH = "executor-plain", "executor-both"


@pytest.fixture
async def idle(broker: Broker, bus: connection.Connection, tmp_path: Path) -> AsyncIterator[System]:
    """An ingress and a recorder; tests start the executors that they need."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "d", pools=(recorder,))


async def _plain(system: System) -> None:
    """Start an executor that has no Deno."""
    await system.start_pool(executor, PLAIN, runtimes="python")


async def _both(system: System) -> None:
    await system.start_pool(executor, BOTH, runtimes="python,deno")


async def _task(system: System, language: Language = "javascript", code: str = SCRIPT) -> str:
    """A task with an active program in *language*; its id."""
    text = {"type": "string"}
    body = {"name": "upper", "input_schema": text, "output_schema": text}
    task_id: str = (await system.http.post("/api/v1/tasks", json=body)).json()["id"]
    await system.store(task_id, code, language)
    return task_id


def _batch(*values: str, version: int | None = None, deadline_ms: int = 2**52) -> ExecuteBatch:
    return ExecuteBatch(
        items=tuple(
            ExecuteItem(
                id=ids.new(),
                input=msgspec.json.encode(v),
                deadline_ms=deadline_ms,
                version=version,
            )
            for v in values
        )
    )


async def _publish(system: System, batch: ExecuteBatch, lane: Any = "interactive") -> None:
    await publisher.publish(
        system.bus,
        subjects.execute(lane, "default", "upper"),
        codec.EXECUTE.encode(batch),
        message_id=batch.items[0].id,
    )


async def _audit(system: System) -> list[ExecutionRecord]:
    return [r async for r in replay.records(system.bus, tenant="default")]


async def _queued(system: System, subject: str = "loopai.v1.>") -> list[replay.Stored]:
    return [m async for m in replay.read(system.bus, "EXECUTE", subject)]


async def _on_route(system: System) -> list[replay.Stored]:
    return await _queued(system, subjects.routed_task("default", "upper"))


async def _settled(system: System, *batches: ExecuteBatch) -> None:
    """Return when the queue is empty and each item of *batches* has exactly one record."""

    async def empty() -> bool:
        return not await _queued(system)

    await until(empty, within_s=30)
    recorded = sorted(record.id for record in await _audit(system))
    assert recorded == sorted(item.id for batch in batches for item in batch.items)
    assert (await system.bus.jetstream.stream_info("DEAD")).state.messages == 0


async def test_work_for_another_runtime_is_done_by_the_worker_that_has_it(idle: System) -> None:
    """Both take from the queue, one of them can run it: it gets all, and nothing is run twice."""
    await _task(idle)
    await _plain(idle)
    await _both(idle)

    answers = await asyncio.gather(*(idle.execute(f"text {n}") for n in range(200)))

    assert [a.json()["output"] for a in answers] == [f"TEXT {n}" for n in range(200)]
    records = await _audit(idle)
    assert sorted(r.id for r in records) == sorted(a.json()["id"] for a in answers)
    assert len({r.id for r in records}) == 200
    assert {r.worker for r in records} == {BOTH}
    assert await _queued(idle) == []
    assert (await idle.bus.jetstream.stream_info("DEAD")).state.messages == 0


async def test_without_the_runtime_work_waits_and_is_answered_when_one_comes(
    idle: System,
) -> None:
    """It is in EXECUTE all the time, readable as queued, and its caller gets the answer."""
    await _task(idle)
    await _plain(idle)
    calls = [asyncio.create_task(idle.execute(f"text {n}")) for n in range(20)]

    async def on_route() -> bool:
        return sum(len(codec.EXECUTE.decode(m.payload).items) for m in await _on_route(idle)) == 20

    await until(on_route)
    assert await _audit(idle) == []
    waiting = codec.EXECUTE.decode((await _on_route(idle))[0].payload).items[0].id
    seen = await idle.http.get(f"/api/v1/executions/{waiting}")
    assert seen.json()["status"] == "queued"

    await _both(idle)
    answers = await asyncio.gather(*calls)

    assert [a.json()["output"] for a in answers] == [f"TEXT {n}" for n in range(20)]
    records = await _audit(idle)
    assert {r.id for r in records} == {a.json()["id"] for a in answers}
    assert {r.worker for r in records} == {BOTH}
    assert len(records) == 20


async def test_lanes_stay_apart_on_the_route(idle: System) -> None:
    """What came in bulk goes on in bulk, behind nothing that is interactive."""
    await _task(idle)
    await _plain(idle)
    quick, slow = _batch("a"), _batch("b")
    await _publish(idle, quick)
    await _publish(idle, slow, "bulk")

    async def on_route() -> bool:
        return len(await _on_route(idle)) == 2

    await until(on_route)
    subject = {m.subject for m in await _on_route(idle)}
    group, place = subjects.queue("default", "upper")
    assert subject == {
        f"loopai.v1.routed.deno.{lane}.{group}.{place}.default.upper"
        for lane in ("interactive", "bulk")
    }
    await _both(idle)
    await _settled(idle, quick, slow)


async def test_a_crash_between_the_copy_and_the_ack_copies_nothing_twice(idle: System) -> None:
    """The copy is stored and its worker dies: the next delivery finds it and leaves it there."""
    await _task(idle)
    batch = _batch("a", "b", "c")
    await _publish(idle, batch)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        crashed = await anext(aiter(taken))
        await routing.forward(idle.bus, crashed, batch, "deno")
        await crashed.nak(0)
    await _plain(idle)

    async def copied() -> bool:
        return [m.headers.get("Loopai-Routed-From") for m in await _queued(idle)] == ["1"]

    await until(copied)
    await _both(idle)
    await _settled(idle, batch)
    assert {r.worker for r in await _audit(idle)} == {BOTH}


async def test_a_copy_that_was_done_before_the_original_came_again_is_all_there_is(
    idle: System,
) -> None:
    """The copy is recorded already: whoever gets the original again finds that and is done."""
    await _task(idle)
    batch = _batch("a", "b")
    await _publish(idle, batch)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        crashed = await anext(aiter(taken))
        await routing.forward(idle.bus, crashed, batch, "deno")
        await _both(idle)

        async def recorded() -> bool:
            return len(await _audit(idle)) == 2

        await until(recorded)
        await crashed.nak(0)
        taken.release()
    await _plain(idle)
    await _settled(idle, batch)


async def test_a_rollout_that_changes_between_copy_and_redelivery_runs_nothing_twice(
    idle: System,
) -> None:
    """The second worker could run what is active by now, but the copy has it."""
    task_id = await _task(idle)
    batch = _batch("a", "b")
    await _publish(idle, batch)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        crashed = await anext(aiter(taken))
        await routing.forward(idle.bus, crashed, batch, "deno")
        await idle.store(task_id, UPPER)
        await crashed.nak(0)
    await _plain(idle)

    async def copied() -> bool:
        return len(await _queued(idle)) == 1

    await until(copied)
    assert await _audit(idle) == []
    await _both(idle)
    await _settled(idle, batch)
    assert {r.version for r in await _audit(idle)} == {2}


async def test_copying_again_at_once_stores_one_copy(idle: System) -> None:
    """The broker knows the second copy by its id."""
    await _task(idle)
    batch = _batch("a")
    await _publish(idle, batch)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        crashed = await anext(aiter(taken))
        await routing.forward(idle.bus, crashed, batch, "deno")
        await routing.forward(idle.bus, crashed, batch, "deno")
        await crashed.ack()
    assert len(await _on_route(idle)) == 1
    await _both(idle)
    await _settled(idle, batch)


async def test_a_batch_of_several_languages_goes_on_whole(idle: System) -> None:
    """One worker runs, records and answers it: each item gets its version, in order."""
    task_id = await _task(idle)
    await idle.store(task_id, UPPER)
    await _plain(idle)
    await _both(idle)
    script, python = _batch("a", version=1), _batch("b", version=2)
    mixed = ExecuteBatch(items=(*python.items, *script.items))
    await _publish(idle, mixed)
    await _settled(idle, mixed)
    records = await _audit(idle)
    assert [r.version for r in records] == [2, 1]
    assert {r.worker for r in records} == {BOTH}
    assert [r.output for r in records] == [b'"B"', b'"A"']


async def test_what_an_earlier_delivery_recorded_is_not_run_again_on_the_route(
    idle: System,
) -> None:
    """One of two items was recorded before its worker died; the copy says since when to look."""
    task_id = await _task(idle)
    await idle.store(task_id, UPPER)
    mixed = ExecuteBatch(items=(*_batch("a", version=2).items, *_batch("b", version=1).items))
    await _publish(idle, mixed)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        for _ in range(2):
            await (await anext(aiter(taken))).nak(0)
            taken.release()
    # On the third delivery items go one by one: the first is run here, the second is not.
    await _plain(idle)

    async def recorded() -> bool:
        return len(await _audit(idle)) == 1

    await until(recorded)
    await _both(idle)
    await _settled(idle, mixed)
    records = await _audit(idle)
    assert [(r.worker, r.output) for r in records] == [(PLAIN, b'"A"'), (BOTH, b'"B"')]


async def test_what_nobody_waits_for_needs_no_runtime(idle: System) -> None:
    """An item whose deadline has passed is recorded by whoever has it."""
    await _task(idle)
    await _plain(idle)
    batch = _batch("a", deadline_ms=1)
    await _publish(idle, batch)
    await _settled(idle, batch)
    (record,) = await _audit(idle)
    assert (record.status, record.worker) == ("timeout", PLAIN)


async def test_a_json_publisher_is_answered_in_json_by_the_other_worker(idle: System) -> None:
    """The copy is msgpack; the answer has the form that the original came in, and its id."""
    await _task(idle)
    await _plain(idle)
    await _both(idle)
    inbox = idle.bus.client.new_inbox()
    answers = await idle.bus.client.subscribe(inbox)
    await idle.bus.client.publish(
        subjects.execute("interactive", "default", "upper"),
        b'{"input": "hello"}',
        headers={"Content-Type": "application/json", "Loopai-Reply-To": inbox},
    )

    answer = msgspec.json.decode((await answers.next_msg(timeout=15)).data)

    (record,) = await _audit(idle)
    assert (answer["id"], answer["output"], record.worker) == (record.id, "HELLO", BOTH)


async def _with_backlog(system: System, number: int) -> None:
    wanted = topology.topology(execute_backlog_max=number)
    await provision.apply(system.bus, wanted)


async def test_a_full_route_makes_work_wait(idle: System) -> None:
    """There is no room behind the copy: the original is given back, and goes on later."""
    await _task(idle)
    await _with_backlog(idle, 2)
    await _plain(idle)
    batches = [_batch(f"{n}") for n in range(3)]
    for number, batch in enumerate(batches):
        await _publish(idle, batch)
        on_route = min(number + 1, 2)

        async def moved(wanted: int = on_route) -> bool:
            return len(await _on_route(idle)) == wanted

        await until(moved)

    async def given_back() -> bool:
        spec = queue.python()
        info = await idle.bus.jetstream.consumer_info(spec.stream, spec.durable)
        return bool(info.num_ack_pending == 1 and info.num_pending == 0)

    await until(given_back)
    assert await _audit(idle) == []
    await _both(idle)
    await _settled(idle, *batches)


async def test_a_route_that_stays_full_is_answered_as_a_full_backlog(idle: System) -> None:
    """On its last delivery the original is recorded as rejected, and is not dead."""
    await _task(idle)
    await _with_backlog(idle, 1)
    await _publish(idle, first := _batch("first"))
    await _plain(idle)

    async def full() -> bool:
        return len(await _on_route(idle)) == 1

    await until(full)
    await idle.stop_pool(executor, PLAIN)
    await _publish(idle, batch := _batch("a", "b"))
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        for _ in range(topology.MAX_DELIVER - 1):
            await (await anext(aiter(taken))).nak(0)
            taken.release()
    await _plain(idle)

    async def recorded() -> bool:
        return len(await _audit(idle)) == 2

    await until(recorded)
    records = await _audit(idle)
    assert {r.id for r in records} == {item.id for item in batch.items}
    assert {(r.status, r.error.type if r.error else "") for r in records} == {
        ("rejected", "BACKLOG_FULL")
    }
    await _both(idle)
    await _settled(idle, first, batch)


async def test_a_message_that_exhausts_its_deliveries_on_the_route_goes_to_dead(
    idle: System,
) -> None:
    """The advisories cover the new consumers: its executions are found among the dead."""
    await _task(idle)
    await _plain(idle)
    await _publish(idle, batch := _batch("poison"))

    async def on_route() -> bool:
        return len(await _on_route(idle)) == 1

    await until(on_route)
    spec = queue.deno()
    async with consumer.Consumer(idle.bus, spec, slots=1) as taken:
        for _ in range(topology.MAX_DELIVER):
            await (await anext(aiter(taken))).nak(0)
            taken.release()
    await _both(idle)

    async def dead() -> bool:
        found = await replay.dead(idle.bus, tenant="default", execution_id=batch.items[0].id)
        return found is not None and found.reason == "max_deliveries"

    await until(dead)

    async def gone() -> bool:
        return await _queued(idle) == []

    await until(gone)
    assert await _audit(idle) == []
    answer = await idle.http.get(f"/api/v1/executions/{batch.items[0].id}")
    assert answer.json()["error"]["type"] == "dead_letter"


async def test_a_dead_copy_names_only_what_no_delivery_recorded(idle: System) -> None:
    """One item was recorded before the copy was made: it did not end in DEAD."""
    task_id = await _task(idle)
    await idle.store(task_id, UPPER)
    mixed = ExecuteBatch(items=(*_batch("a", version=2).items, *_batch("b", version=1).items))
    await _publish(idle, mixed)
    async with consumer.Consumer(idle.bus, queue.python(), slots=1) as taken:
        for _ in range(2):
            await (await anext(aiter(taken))).nak(0)
            taken.release()
    await _plain(idle)

    async def on_route() -> bool:
        return len(await _on_route(idle)) == 1

    await until(on_route)
    spec = queue.deno()
    async with consumer.Consumer(idle.bus, spec, slots=1) as taken:
        for _ in range(topology.MAX_DELIVER):
            await (await anext(aiter(taken))).nak(0)
            taken.release()
    await _both(idle)

    async def gone() -> bool:
        return await _queued(idle) == []

    await until(gone)
    first, second = (item.id for item in mixed.items)
    assert [r.id for r in await _audit(idle)] == [first]
    letter = await replay.dead(idle.bus, tenant="default", execution_id=second)
    assert letter is not None
    assert letter.execution_ids == (second,)


async def test_conservation_while_workers_come_and_go(idle: System) -> None:
    """Executors with and without the runtime are stopped and started: each item ends once."""
    await _task(idle)
    await _plain(idle)
    accepted: set[str] = set()

    async def submit(number: int) -> None:
        answer: httpx.Response = await idle.http.post(
            "/api/v1/tasks/upper/execute",
            json={"input": f"text {number}"},
            headers={"Prefer": "respond-async"},
        )
        accepted.add(answer.json()["id"])

    submitting = asyncio.gather(*(submit(n) for n in range(300)))
    await _both(idle)
    await idle.stop_pool(executor, PLAIN)
    await idle.stop_pool(executor, BOTH)
    await _plain(idle)
    await submitting
    await _both(idle)

    async def empty() -> bool:
        return not await _queued(idle)

    await until(empty, within_s=30)
    recorded = [r.id for r in await _audit(idle)]
    assert len(recorded) == len(set(recorded)) == 300
    assert set(recorded) == accepted


async def test_a_runtime_that_is_not_there_stops_the_start(
    idle: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An executor that was told to have Deno and has none says so rather than idle."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr("sys.prefix", "/nonexistent")
    with pytest.raises(errors.StartupError, match="no deno here"):
        await _both(idle)
