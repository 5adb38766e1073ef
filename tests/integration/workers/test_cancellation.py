"""Cancelled executions: not run, or ended where they run; recorded once, and nobody else's loss."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from loopai.embedded.broker import Broker
from streams import codec, connection, ids, publisher, replay, store, subjects, topology
from streams.messages import Cancellation, ExecuteBatch, ExecuteItem, ExecutionRecord
from tests.integration.ingress.problems import problem
from tests.system import System
from tests.wait import until
from workers import executor

LOOP = """
def run(input):
    while input == "loop":
        pass
    return input.upper()
"""
SCRIPT = "export function run(input) { while (input === 'loop'); return input.toUpperCase(); }"
RUN_MS_MAX = 60_000
PROMPT_S = 3.0
"""Far below the deadline of what is cancelled, and far above what a busy machine needs."""


@pytest.fixture
async def front(
    broker: Broker, bus: connection.Connection, tmp_path: Path
) -> AsyncIterator[System]:
    """An ingress; tests start the executors that they need."""
    async with contextlib.AsyncExitStack() as stack:
        yield await System.started(stack, broker, bus, tmp_path / "data", pools=())


def _batch(*values: str) -> ExecuteBatch:
    deadline_ms = int(time.time() * 1000) + RUN_MS_MAX
    return ExecuteBatch(
        items=tuple(
            ExecuteItem(id=ids.new(), input=msgspec.json.encode(value), deadline_ms=deadline_ms)
            for value in values
        )
    )


async def _publish(bus: connection.Connection, batch: ExecuteBatch) -> None:
    await publisher.publish(
        bus,
        subjects.execute("interactive", "default", "upper"),
        codec.EXECUTE.encode(batch),
        message_id=batch.items[0].id,
    )


async def _records(system: System, count: int) -> list[ExecutionRecord]:
    """The audit log once it has *count* records."""
    found: list[ExecutionRecord] = []

    async def recorded() -> bool:
        found[:] = [record async for record in replay.records(system.bus, tenant="default")]
        return len(found) >= count

    await until(recorded)
    return found


async def _cancel(system: System, execution_id: str, query: str = "") -> httpx.Response:
    return await system.http.delete(f"/api/v1/executions/{execution_id}{query}")


async def _queued(system: System, value: str = "loop") -> str:
    """An execution whose caller does not wait; its id."""
    url = "/api/v1/tasks/upper/execute?wait=0"
    body = {"input": value, "timeout_ms": RUN_MS_MAX}
    execution_id: str = (await system.http.post(url, json=body)).raise_for_status().json()["id"]
    return execution_id


async def _work(system: System, instance: str = "worker", runtimes: str = "python") -> None:
    await system.start_pool(executor, instance, run_ms_max=RUN_MS_MAX, runtimes=runtimes)


def _figure(system: System, name: str, labels: dict[str, str] | None = None) -> float:
    value = system.figures["worker"].get_sample_value(name, labels)
    assert value is not None, name
    return value


async def _warm(system: System) -> float:
    """Have the program in a cell; how many batches have found it there."""
    assert (await system.execute("warm")).json()["output"] == "WARM"
    return _figure(system, "loopai_cell_hits_total")


async def _runs(system: System, before: float) -> None:
    """Return once another batch is in the cell."""
    await until(lambda: _figure(system, "loopai_cell_hits_total") > before)


def _told(view: dict[str, Any]) -> tuple[str, str, str]:
    return view["status"], view["error"]["type"], view["error"]["message"]


async def test_what_is_cancelled_in_the_queue_is_never_run(front: System) -> None:
    """No worker was there: one that starts later knows of it, and records that it did not run."""
    await front.create(code=LOOP)
    unwanted, wanted = await _queued(front), await _queued(front, "a")

    answer = await _cancel(front, unwanted)

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/executions/{unwanted}"
    assert answer.json() == {"id": unwanted, "execution_id": unwanted, "status": "cancelling"}
    await _work(front)
    view = (await front.http.get(f"/api/v1/executions/{unwanted}?wait=15")).json()
    assert _told(view) == ("cancelled", "cancelled", "cancelled before it ran")
    assert (view["version"], view["latency"]["run"], view["output"]) == (None, 0, None)
    assert (await front.http.get(f"/api/v1/executions/{wanted}?wait=15")).json()["output"] == "A"
    assert len(await _records(front, 2)) == 2
    assert _figure(front, "loopai_cell_kills_total", {"cause": "cancelled"}) == 0


async def test_a_running_execution_is_ended_and_its_caller_told(front: System) -> None:
    """Whoever waits is answered at once, and the program goes on answering others."""
    await front.create(code=LOOP)
    await _work(front)
    before = await _warm(front)
    waiting = asyncio.create_task(front.execute("loop", timeout_ms=RUN_MS_MAX))
    await _runs(front, before)
    (queued,) = [m async for m in replay.read(front.bus, "EXECUTE", "loopai.v1.>")]
    (item,) = codec.EXECUTE.decode(queued.payload).items

    begun = time.monotonic()
    assert (await _cancel(front, item.id)).status_code == 202
    answer = await waiting

    assert time.monotonic() - begun < PROMPT_S
    assert answer.status_code == 200
    assert _told(answer.json()) == ("cancelled", "cancelled", "cancelled while it ran")
    assert answer.json()["error"]["outcome"] == "cancelled"
    assert (await front.execute("next")).json()["output"] == "NEXT"
    assert _figure(front, "loopai_cell_kills_total", {"cause": "cancelled"}) == 1
    assert _figure(front, "loopai_cell_outcomes_total", {"kind": "cancelled"}) == 1


async def test_one_of_a_batch_is_cancelled_and_its_neighbours_are_not(front: System) -> None:
    """Two of 256 are called back, one that runs and one behind it: 254 have their answers."""
    await front.create(code=LOOP)
    await _work(front)
    before = await _warm(front)
    values = [f"v{number}" for number in range(256)]
    values[100] = values[200] = "loop"
    batch = _batch(*values)
    await _publish(front.bus, batch)
    await _runs(front, before)

    begun = time.monotonic()
    for index in (200, 100):
        assert (await _cancel(front, batch.items[index].id)).status_code == 202
    records = await _records(front, 257)

    assert time.monotonic() - begun < PROMPT_S
    by_id = {record.id: record for record in records}
    assert len(by_id) == len(records) == 257
    for item, value in zip(batch.items, values, strict=True):
        record = by_id[item.id]
        if value == "loop":
            assert (record.status, record.output) == ("cancelled", None)
        else:
            assert record.output == msgspec.json.encode(value.upper())
    assert _figure(front, "loopai_cell_kills_total", {"cause": "cancelled"}) == 1


async def test_a_cancellation_that_names_another_tenant_counts_for_nothing(front: System) -> None:
    """Whoever knows an id of somebody else cannot end what it stands for."""
    await front.create(code=LOOP)
    execution_id = await _queued(front, "a")
    bucket = store.Bucket(front.bus, topology.CANCELLATIONS, codec.CANCELLATION)
    await bucket.put(execution_id, Cancellation(tenant="other", requested_at=datetime.now(UTC)))

    await _work(front)

    view = (await front.http.get(f"/api/v1/executions/{execution_id}?wait=15")).json()
    assert view["output"] == "A"


@pytest.mark.parametrize("is_routed", [False, True])
async def test_work_for_another_runtime_is_cancelled_alike(front: System, is_routed: bool) -> None:
    """Cancelled before it was passed on or while it waits there, it is not run."""
    task = await front.http.post("/api/v1/tasks", json={"name": "upper"})
    await front.store(task.json()["id"], SCRIPT, "javascript")
    execution_id = await _queued(front)
    if is_routed:
        await _work(front, "plain")

        async def routed() -> bool:
            reading = replay.read(front.bus, "EXECUTE", subjects.routed_task("default", "upper"))
            return len([message async for message in reading]) == 1

        await until(routed)
    assert (await _cancel(front, execution_id)).status_code == 202

    await _work(front, runtimes="python,deno")

    view = (await front.http.get(f"/api/v1/executions/{execution_id}?wait=15")).json()
    assert _told(view) == ("cancelled", "cancelled", "cancelled before it ran")
    assert len(await _records(front, 1)) == 1


async def test_cancelling_again_is_harmless_until_it_is_recorded(front: System) -> None:
    """202 as often as one asks, then 409 with how it ended."""
    await front.create(code=LOOP)
    execution_id = await _queued(front)
    for _ in range(3):
        assert (await _cancel(front, execution_id)).status_code == 202
    assert (await front.http.get(f"/api/v1/executions/{execution_id}")).json()["status"] == "queued"

    waiting = asyncio.create_task(_cancel(front, execution_id, "?wait=15"))
    await _work(front)

    answer = await waiting
    assert answer.status_code == 200
    assert _told(answer.json()) == ("cancelled", "cancelled", "cancelled before it ran")
    document = problem(await _cancel(front, execution_id, "?wait=15"), "EXECUTION_ENDED")
    assert document["execution_status"] == "cancelled"
    assert document["execution_id"] == execution_id
    assert len(await _records(front, 1)) == 1
