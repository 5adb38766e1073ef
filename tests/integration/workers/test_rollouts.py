"""Rollouts as executors apply them: to what comes over HTTP, and to what is published straight."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loopai.sandbox import limits, pool
from streams import codec, ids, publisher, replay, subjects, topology
from streams.messages import ExecuteBatch, ExecuteItem, ExecutionRecord
from tests.system import UPPER, System
from tests.wait import until
from workers import executor, shadows, verdict

ROLLOUT = "/api/v1/tasks/upper/rollout"
EXECUTIONS = 10_000
"""Over HTTP, and as many published straight."""
SCRIPT = "export function run(input) { return input.toUpperCase() + ' in JavaScript'; }\n"
SAYS = "def run(input):\n    return '{}'\n"


async def _put(system: System, **asked: Any) -> dict[str, Any]:
    answer = await system.http.put(ROLLOUT, json=asked)
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = answer.json()
    return decoded


async def _versions(system: System, *codes: str) -> str:
    """A task with a version of each of *codes*, the first of them active; its id."""
    task = await system.create(code=codes[0])
    for code in codes[1:]:
        await system.store(task["id"], code, activate=False)
    task_id: str = task["id"]
    return task_id


async def _records(system: System, *, shadow: bool = False) -> list[ExecutionRecord]:
    return [r async for r in replay.records(system.bus, tenant="default", shadow=shadow)]


async def _count(system: System, subject: str) -> int:
    """Records on *subject* of RECORDS."""
    reading = replay.read(system.bus, topology.RECORDS.name, subject)
    return sum([len(codec.RECORDS.decode(stored.payload).records) async for stored in reading])


def _items(count: int, key: str | None = None) -> tuple[ExecuteItem, ...]:
    deadline_ms = int(time.time() * 1000) + 60_000
    return tuple(
        ExecuteItem(id=each, input=b'"a"', deadline_ms=deadline_ms, routing_key=key)
        for each in ids.several(int(time.time() * 1000), count)
    )


async def _publish(system: System, items: tuple[ExecuteItem, ...]) -> None:
    await publisher.publish(
        system.bus,
        subjects.execute("bulk", "default", "upper"),
        codec.EXECUTE.encode(ExecuteBatch(items=items)),
        message_id=items[0].id,
    )


def _figure(system: System, result: str) -> float:
    registry = system.figures["executor-test"]
    found = registry.get_sample_value("loopai_shadow_executions_total", {"result": result})
    assert found is not None
    return found


async def test_a_canary_gets_its_share_whichever_way_executions_come(system: System) -> None:
    """Of 20,000 in batches over HTTP and published straight, ten percent, give or take one."""
    await _versions(system, SAYS.format(1), SAYS.format(2))
    await _put(system, canary={"version": 2, "percent": 10})

    body = {"task_id": "upper", "items": [{"input": "a"}] * EXECUTIONS}
    answer = (await system.http.post("/api/v1/batch/execute", json=body)).json()
    assert (answer["succeeded"], answer["failed"]) == (EXECUTIONS, 0)
    over_http = Counter(each["version"] for each in answer["results"])
    assert all(each["output"] == str(each["version"]) for each in answer["results"])

    for _ in range(0, EXECUTIONS, 250):
        await _publish(system, _items(250))

    async def recorded() -> bool:
        return await _count(system, subjects.RECORD_ALL) == 2 * EXECUTIONS

    await until(recorded, within_s=60)
    both = Counter(record.version for record in await _records(system))
    straight = both - over_http
    for found in (over_http, straight):
        assert set(found) == {1, 2}
        assert found[2] / found.total() == pytest.approx(0.1, abs=0.01)


async def test_a_routing_key_stays_on_its_side(system: System) -> None:
    """Over single calls, batches, lines, both forms of direct messages, and a restart."""
    await _versions(system, SAYS.format(1), SAYS.format(2))
    await _put(system, canary={"version": 2, "percent": 50})
    keys = [f"customer-{number}" for number in range(12)]
    sides: dict[str, set[int]] = {key: set() for key in keys}

    async def ask_all() -> None:
        for key in keys:
            sides[key].add((await system.execute("a", routing_key=key)).json()["version"])
        items = [{"input": "a", "routing_key": key} for key in keys]
        body = {"task_id": "upper", "items": items}
        for each in (await system.http.post("/api/v1/batch/execute", json=body)).json()["results"]:
            sides[keys[int(each["id"])]].add(each["version"])
        lines = b"".join(msgspec.json.encode(each) + b"\n" for each in items)
        streamed = await system.http.post(
            "/api/v1/batch/execute?task_id=upper",
            content=lines,
            headers={"Content-Type": "application/x-ndjson"},
        )
        for line in streamed.text.splitlines()[:-1]:
            found = msgspec.json.decode(line)
            sides[keys[int(found["id"]) - 1]].add(found["version"])

    await ask_all()
    await system.stop_pool(executor)
    await system.start_pool(executor)
    await ask_all()

    sent: dict[str, str] = {}
    for key in keys:
        items = _items(3, key)
        sent |= {item.id: key for item in items}
        await _publish(system, items)
        execution_id = ids.new()
        sent[execution_id] = key
        request = {"input": "a", "id": execution_id, "routing_key": key}
        await system.bus.client.publish(
            subjects.execute("interactive", "default", "upper"),
            msgspec.json.encode(request),
            headers={"Content-Type": "application/json"},
        )

    async def recorded() -> bool:
        return {record.id for record in await _records(system)} >= set(sent)

    await until(recorded)
    for record in await _records(system):
        if record.id in sent and record.version is not None:
            sides[sent[record.id]].add(record.version)
    assert all(len(found) == 1 for found in sides.values())
    assert {version for found in sides.values() for version in found} == {1, 2}


async def test_a_version_that_is_asked_for_goes_before_the_canary(system: System) -> None:
    """Also beside items of the same batch that the rollout has the choice for."""
    await _versions(system, SAYS.format(1), SAYS.format(2), SAYS.format(3))
    await _put(system, canary={"version": 2, "percent": 100})
    free, pinned, gone = _items(3)
    await _publish(
        system,
        (
            free,
            msgspec.structs.replace(pinned, version=3),
            msgspec.structs.replace(gone, version=9),
        ),
    )

    async def recorded() -> bool:
        return len(await _records(system)) == 3

    await until(recorded)
    found = {record.id: record for record in await _records(system)}
    assert [found[each.id].output for each in (free, pinned, gone)] == [b'"2"', b'"3"', None]
    rejected = found[gone.id]
    assert rejected.status == "rejected"
    assert rejected.error is not None
    assert rejected.error.type == "ARTIFACT_NOT_FOUND"


async def test_a_canary_in_another_language_goes_to_a_worker_that_has_it(system: System) -> None:
    """A worker without Deno takes the batch, one with it answers all of it."""
    await system.stop_pool(executor)
    task_id = await _versions(system, UPPER)
    await system.store(task_id, SCRIPT, "javascript", activate=False)
    await _put(system, canary={"version": 2, "percent": 50})
    await system.start_pool(executor, "executor-plain", runtimes="python")
    await system.start_pool(executor, "executor-both", runtimes="python,deno")

    body = {"task_id": "upper", "items": [{"input": "a"}] * 200}
    answer = (await system.http.post("/api/v1/batch/execute", json=body)).json()

    assert answer["succeeded"] == 200
    outputs = Counter(each["output"] for each in answer["results"])
    assert set(outputs) == {"A", "A in JavaScript"}
    assert 50 < outputs["A"] < 150


async def test_a_rollback_is_heard_of_at_once(system: System) -> None:
    """What is asked after the rollback was answered is answered by the version before."""
    await _versions(system, SAYS.format(1), SAYS.format(2))
    await _put(system, active=2)
    for _ in range(10):
        assert (await system.execute("a")).json()["output"] == "2"
        await system.http.post(f"{ROLLOUT}/rollback")
        assert (await system.execute("a")).json()["output"] == "1"
        await _put(system, active=2)


async def test_no_request_fails_while_versions_change(system: System) -> None:
    """Fifty activations under four callers: each answer is of a version active during its call."""
    await _versions(system, *(SAYS.format(number) for number in range(1, 6)))
    active: list[tuple[int, float, float]] = [(1, 0.0, 0.0)]
    """Version, and when its activation was asked for and answered."""
    answers: list[tuple[int, float, float]] = []
    done = asyncio.Event()

    async def call() -> None:
        while not done.is_set():
            began = time.monotonic()
            answer = await system.execute("a")
            assert answer.status_code == 200, answer.text
            found = answer.json()
            assert found["status"] == "success", found
            assert found["output"] == str(found["version"])
            answers.append((found["version"], began, time.monotonic()))

    async with asyncio.TaskGroup() as group:
        callers = [group.create_task(call()) for _ in range(4)]
        for number in range(50):
            version = number % 4 + 2
            seen = len(answers)
            asked = time.monotonic()
            await _put(system, active=version)
            active.append((version, asked, time.monotonic()))
            await until(lambda seen=seen: len(answers) >= seen + 4)
        done.set()
        await asyncio.gather(*callers)

    for version, began, ended in answers:
        possible = {
            each
            for index, (each, asked, _) in enumerate(active)
            if asked <= ended and (index + 1 == len(active) or active[index + 1][2] >= began)
        }
        assert version in possible
    assert {version for version, _, _ in answers} >= {2, 3, 4, 5}


async def test_a_shadow_runs_what_was_answered(system: System) -> None:
    """With the same id and input; recorded beside the audit log, which does not know of it."""
    await _versions(system, UPPER, "def run(input):\n    print(input)\n    return input + '!'\n")
    await _put(system, shadow=2)
    answer = (await system.execute("a")).json()
    body = {"task_id": "upper", "items": [{"input": "b"}, {"input": "c"}, {"input": 7}]}
    batch = (await system.http.post("/api/v1/batch/execute", json=body)).json()
    asked = [answer["id"], *(each["execution_id"] for each in batch["results"][:2])]

    async def recorded() -> bool:
        return len(await _records(system, shadow=True)) == 3

    await until(recorded)
    shadows = {record.id: record for record in await _records(system, shadow=True)}
    found = [shadows[each] for each in asked]
    assert [(r.input, r.output, r.version, r.shadow, r.stdout) for r in found] == [
        (b'"a"', b'"a!"', 2, True, "a\n"),
        (b'"b"', b'"b!"', 2, True, "b\n"),
        (b'"c"', b'"c!"', 2, True, "c\n"),
    ]
    answered = await _records(system)
    assert sorted(r.id for r in answered) == sorted(asked)
    assert {(r.version, r.shadow) for r in answered} == {(1, False)}
    looked_up = (await system.http.get(f"/api/v1/executions/{answer['id']}")).json()
    assert (looked_up["version"], looked_up["output"]) == (1, "A")
    assert (_figure(system, "recorded"), _figure(system, "dropped")) == (3, 0)


async def test_what_the_rollout_did_not_choose_casts_no_shadow(system: System) -> None:
    """A version asked for by its number, and what no program has run."""
    await _versions(system, UPPER, SAYS.format(2))
    await _put(system, shadow=2)
    free, pinned, late = _items(3)
    await _publish(
        system,
        (
            msgspec.structs.replace(pinned, version=1),
            msgspec.structs.replace(late, deadline_ms=1),
            free,
        ),
    )

    async def recorded() -> bool:
        return len(await _records(system, shadow=True)) == 1

    await until(recorded)
    (shadow,) = await _records(system, shadow=True)
    assert shadow.id == free.id
    assert len(await _records(system)) == 3


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("def run(input):\n    return input / 2\n", "error", "TypeError"),
        ("def run(input):\n    while True:\n        pass\n", "timeout", "timeout"),
        ("def run(input):\n    return 10\n", "error", "invalid_output"),
        ("def run(input):\n    return 'x' * 10 ** 10\n", "error", "out_of_memory"),
    ],
)
async def test_a_shadow_that_fails_is_recorded_and_harms_nobody(
    system: System, code: str, status: str, error: str
) -> None:
    """Not the answer, not the next one, and nothing is delivered again."""
    await _versions(system, UPPER, code)
    await _put(system, shadow=2)
    answer = (await system.execute("a", timeout_ms=1000)).json()
    assert (answer["status"], answer["output"]) == ("success", "A")

    async def recorded() -> bool:
        return len(await _records(system, shadow=True)) == 1

    await until(recorded, within_s=30)
    (shadow,) = await _records(system, shadow=True)
    assert (shadow.id, shadow.status) == (answer["id"], status)
    assert shadow.error is not None
    assert shadow.error.type == error
    assert (await system.execute("b")).json()["output"] == "B"
    assert (await system.bus.jetstream.stream_info("EXECUTE")).state.messages == 0
    assert (await system.bus.jetstream.stream_info("DEAD")).state.messages == 0


async def test_a_hanging_shadow_delays_no_answer_and_fills_a_bounded_queue(system: System) -> None:
    """More than the queue holds is answered all the same; what found no room is counted."""
    await _versions(system, UPPER, "def run(input):\n    while True:\n        pass\n")
    await _put(system, shadow=2)
    body = {"task_id": "upper", "items": [{"input": "a"}] * 5_000}
    answer = (await system.http.post("/api/v1/batch/execute", json=body)).json()
    assert answer["succeeded"] == 5_000
    for _ in range(20):
        assert (await system.execute("b")).json()["output"] == "B"
    # One batch is in its cell, and what came while the queue was full is gone.
    assert 2_000 < _figure(system, "dropped") < 5_000
    assert _figure(system, "recorded") == 0
    assert await _count(system, subjects.SHADOW_ALL) == 0


async def test_large_inputs_fill_the_queue_of_shadows_too(system: System) -> None:
    """Twenty inputs of nearly 1 MiB are more than it may hold."""
    await _versions(system, SAYS.format(1), "def run(input):\n    while True:\n        pass\n")
    await _put(system, shadow=2)
    for _ in range(20):
        answer = await system.execute("x" * (topology.MIB - 1024))
        assert answer.json()["output"] == "1"
    assert 1 <= _figure(system, "dropped") <= 20 - shadows.QUEUED_BYTES_MAX // topology.MIB


async def test_a_shadow_batch_that_takes_too_long_makes_way(system: System) -> None:
    """It is dropped, and the next one is recorded."""
    task_id = await _versions(
        system, UPPER, "def run(input):\n    while True:\n        pass\n", SAYS.format(3)
    )
    await _put(system, shadow=2)
    await system.execute("a")
    (answered,) = await _records(system)
    items = _items(1)
    order = verdict.Order(
        tenant="default", task="upper", batch=ExecuteBatch(items=items, task_id=task_id), attempt=1
    )
    records = {items[0].id: msgspec.structs.replace(answered, id=items[0].id)}
    known = system.services.catalog
    cells = pool.CellPool(limits.Limits(), cells_max=1)
    beside = shadows.Shadows(
        system.bus,
        known,
        cells,
        languages=frozenset({"python"}),
        run_ms_max=60_000,
        worker="test",
        batch_s_max=0.5,
    )
    try:
        async with beside.opened():
            beside.offer(order, records)
            await until(lambda: beside.counts.dropped == 1)
            await _put(system, shadow=3)
            beside.offer(order, records)
            await until(lambda: beside.counts.recorded == 1)
    finally:
        await cells.close()


async def test_a_shadow_whose_text_is_gone_or_whose_runtime_is_elsewhere_is_dropped(
    system: System,
) -> None:
    """It is counted, and the next one that can be run is."""
    task_id = await _versions(system, UPPER, SAYS.format(2))
    await system.stop_pool(executor)
    await system.start_pool(executor, runtimes="python")
    await system.store(task_id, SCRIPT, "javascript", activate=False)
    lost = await system.store(task_id, SAYS.format("lost"), activate=False)
    for path in (Path(system.settings.data_dir) / "artifacts").rglob(f"*{lost.digest}*"):
        path.unlink()
    for number, version in enumerate((3, 4), 1):
        await _put(system, shadow=version)
        assert (await system.execute("a")).json()["output"] == "A"
        await until(lambda number=number: _figure(system, "dropped") == number)
    await _put(system, shadow=2)
    await system.execute("a")
    await until(lambda: _figure(system, "recorded") == 1)
    assert [record.version for record in await _records(system, shadow=True)] == [2]
    assert (await system.bus.jetstream.stream_info("DEAD")).state.messages == 0


async def test_a_redelivery_casts_one_shadow(system: System) -> None:
    """A worker that was slow to acknowledge has run it already; so the broker knows its id."""
    await _versions(system, UPPER, SAYS.format(2))
    await _put(system, shadow=2)
    items = _items(3)
    await _publish(system, items)

    async def recorded() -> bool:
        return len(await _records(system, shadow=True)) == 3

    await until(recorded)
    payload = codec.EXECUTE.encode(ExecuteBatch(items=items))
    await publisher.publish(
        system.bus,
        subjects.execute("bulk", "default", "upper"),
        payload,
        message_id="once more",
    )
    await until(lambda: _figure(system, "recorded") == 6)
    assert len(await _records(system, shadow=True)) == 3
    assert len(await _records(system)) == 3


async def test_a_worker_that_stops_leaves_its_shadows(system: System) -> None:
    """It ends in its time, with answers given and shadows waiting."""
    await _versions(system, UPPER, "def run(input):\n    while True:\n        pass\n")
    await _put(system, shadow=2)
    answers = await asyncio.gather(*(system.execute("a") for _ in range(20)))
    assert {answer.json()["output"] for answer in answers} == {"A"}
    async with asyncio.timeout(10):
        await system.stop_pool(executor)
    assert len(await _records(system)) == 20
