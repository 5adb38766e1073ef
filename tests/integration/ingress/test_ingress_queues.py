"""`GET /queues`: what is queued and running, for whom; a tenant's cap; the way past a crowd."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from loopai.ingress import queues
from streams import backlog, codec, ids, publisher, store, subjects, topology
from streams.messages import WorkerPresence
from tests.system import System
from tests.wait import until
from workers import executor

SLOW = "def run(input):\n    sum(range(30_000_000))\n    return input\n"
"""About a second of work: programs may not import what would let them sleep."""


async def _queues(system: System, query: str = "") -> dict[tuple[str, str], dict[str, Any]]:
    answer = (await system.http.get(f"/api/v1/queues{query}")).raise_for_status()
    return {(each["task"], each["lane"]): each for each in answer.json()["queues"]}


async def _publish(system: System, task: str, number: int) -> None:
    async def one() -> None:
        await publisher.publish(
            system.bus,
            subjects.execute("bulk", "default", task),
            b'{"input": "x"}',
            message_id=ids.new(),
            headers={"Content-Type": "application/json"},
        )

    await asyncio.gather(*(one() for _ in range(number)))


async def _present(system: System, name: str, **told: Any) -> None:
    """A worker shows itself, and the ingress has heard of it."""
    pool = name.partition("-")[0]
    presence = WorkerPresence(
        pool=pool, instance=name, host="here", pid=1, started_at=datetime.now(UTC), **told
    )
    bucket = store.Bucket(system.bus, topology.WORKERS, codec.WORKER)
    await system.services.workers.reach(await bucket.put(subjects.worker_key(pool, name), presence))


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "FRESH_S", 0.0)
    monkeypatch.setattr(queues, "READING_SHARE", 0)


async def test_what_waits_is_counted_and_its_age_told(system: System) -> None:
    """Nobody works: all of it is queued, in the lane that it was published to."""
    task = await system.create("one.two")
    await system.stop_pool(executor)
    await _publish(system, "one.two", 7)

    found = await _queues(system)

    assert found.keys() == {("one.two", "bulk")}
    row = found["one.two", "bulk"]
    assert 0 <= row.pop("oldest_s") < 60
    assert row == {
        "task": "one.two",
        "lane": "bulk",
        "runtime": None,
        "queued": 7,
        "running": 0,
        "rate": 0.0,
    }
    for reference in ("one.two", task["id"]):
        assert (await _queues(system, f"?task={reference}")).keys() == {("one.two", "bulk")}


async def test_tasks_are_told_apart(system: System) -> None:
    """One of two is asked for."""
    await system.create("one")
    await system.create("two")
    await system.stop_pool(executor)
    await _publish(system, "one", 1)
    await _publish(system, "two", 2)
    assert {key: row["queued"] for key, row in (await _queues(system, "?task=two")).items()} == {
        ("two", "bulk"): 2
    }


async def test_what_live_workers_are_at_is_summed_up(system: System) -> None:
    """By lane and runtime; what a worker said stands while it lives."""
    await system.create()
    await system.stop_pool(executor)
    await _publish(system, "upper", 5)
    own = subjects.placed("bulk", subjects.queue("default", "upper"), "default", "upper")
    for name, rate in (("executor-1", 1.5), ("executor-2", 0.25)):
        rates = {own: rate, subjects.routed("deno", own): 1.0}
        await _present(system, name, running={own: 2}, rates=rates)

    async def shown() -> bool:
        answer = (await system.http.get("/api/v1/queues")).json()["queues"]
        found = {row["runtime"]: (row["queued"], row["running"], row["rate"]) for row in answer}
        return found == {None: (1, 4, 1.75), "deno": (0, 0, 2.0)}

    await until(shown)


async def test_a_worker_says_what_it_is_at(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    """First both are running; then nothing is, and both were recorded in the last minute."""
    monkeypatch.setattr(topology, "PRESENCE_S", 0.1)
    await system.stop_pool(executor)
    await system.start_pool(executor)
    await system.create(code=SLOW)
    await _publish(system, "upper", 2)

    async def shown(queued: int, running: int, rate: float) -> bool:
        row = (await _queues(system)).get(("upper", "bulk"), {})
        return (row.get("queued"), row.get("running"), row.get("rate")) == (queued, running, rate)

    await until(lambda: shown(0, 2, 0.0))
    await until(lambda: shown(0, 0, round(2 / 60, 3)))


async def test_an_unknown_task_has_no_queue(system: System) -> None:
    """404, as everywhere."""
    answer = await system.http.get("/api/v1/queues?task=nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "TASK_NOT_FOUND")


async def test_a_tenant_with_too_much_queued_gets_no_more(system: System) -> None:
    """The count lags a little; when there is room again, so is the answer."""
    await system.create()
    await system.stop_pool(executor)
    await _publish(system, "upper", 5)
    capped = queues.Queues(system.bus, system.services.workers, tenant_backlog_max=5)

    def refusal() -> str:
        try:
            capped.require_room("default")
        except publisher.BacklogFull as error:
            return str(error)
        return ""

    assert refusal() == ""
    await until(lambda: refusal() != "")
    assert "the tenant has 5 messages queued, of 5" in refusal()
    capped.require_room("another")
    await system.start_pool(executor)
    await until(lambda: refusal() == "")
    await capped.close()


async def test_the_cap_is_a_503_over_http(system: System) -> None:
    """With the code of a full backlog, and when to come again."""
    await system.create()
    await system.stop_pool(executor)
    await _publish(system, "upper", 5)
    system.services.queues._tenant_backlog_max = 5

    async def refused() -> bool:
        answer = await system.http.post("/api/v1/tasks/upper/execute?wait=0", json={"input": "x"})
        if answer.status_code == 202:
            return False
        assert (answer.status_code, answer.json()["code"]) == (503, "BACKLOG_FULL")
        assert answer.headers["retry-after"] == "1"
        assert "of 5 that it may have" in answer.json()["detail"]
        return True

    await until(refused)


async def test_a_task_goes_past_a_queue_that_others_crowd(system: System) -> None:
    """Its calls wait in its second queue; those of whoever crowds the first stay there."""
    owner = subjects.queue("default", "quiet")
    crowd = next(
        name for n in range(100) if subjects.queue("default", name := f"crowd{n}") == owner
    )
    for task in ("quiet", crowd):
        await system.create(task)
    await system.stop_pool(executor)
    await _publish(system, crowd, queues.CROWDED + 2)
    first, second = subjects.queues("default", "quiet")
    assert first[0] != second[0]
    assert first[1] != second[1]

    async def gone_past() -> bool:
        held = Counter(await backlog.messages(system.bus))
        system.services.queues.subject("bulk", "default", "quiet")
        await publisher.publish(
            system.bus,
            system.services.queues.subject("bulk", "default", "quiet"),
            b'{"input": "x"}',
            message_id=ids.new(),
            headers={"Content-Type": "application/json"},
        )
        return held[subjects.placed("bulk", second, "default", "quiet")] > 0

    await until(gone_past)
    assert system.services.queues.subject("bulk", "default", crowd) == subjects.execute(
        "bulk", "default", crowd
    )
    await system.start_pool(executor)

    async def empty() -> bool:
        return not await backlog.messages(system.bus)

    await until(empty)


async def test_a_generation_is_nobodys_queue(system: System) -> None:
    """What generators are at has no lane and no place in EXECUTE; nor has what nobody owns."""
    running = {subjects.generate("default", "upper"): 1, "loopai.v1.execute.bulk.0.0.default.?": 1}
    await _present(system, "worker-1", running=running)

    assert await _queues(system) == {}


async def test_without_an_answer_of_the_broker_nothing_is_claimed(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 503 rather than an empty list, or an old one; and the next look is not put off."""
    monkeypatch.setattr(queues, "FRESH_S", 1.0)
    monkeypatch.setattr(queues, "READING_SHARE", 1_000_000)
    monkeypatch.setattr(backlog, "ANSWER_S", 0.2)
    held = system.services.queues
    await system.broker.stop()

    for _ in range(2):
        answer = await system.http.get("/api/v1/queues")
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert held._due <= time.monotonic() + queues.FRESH_S

    await system.broker.start()

    async def answered() -> bool:
        return (await system.http.get("/api/v1/queues")).status_code == 200

    await until(answered)
    assert held._due <= time.monotonic() + queues.AGE_S_MAX


async def test_many_who_ask_at_once_cost_the_broker_one_count(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them wait for the same one."""
    monkeypatch.setattr(queues, "FRESH_S", 60.0)
    asked = await system.bus.client.subscribe("$JS.API.STREAM.INFO.EXECUTE")
    await system.bus.client.flush()

    await asyncio.gather(*(_queues(system) for _ in range(10)))
    await system.bus.client.flush()

    assert asked.pending_msgs == 1


async def test_others_have_turns_while_very_many_queues_are_counted(system: System) -> None:
    """Neither a count nor an answer about 5,000 tasks holds up the loop; the busiest are shown."""
    held = system.services.queues
    counts = {subjects.placed("bulk", (0, 0), "default", f"t{n}"): n for n in range(1, 5_001)}
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    running = asyncio.create_task(other())
    await held._count(counts)
    running.cancel()

    assert turns > 5_000 / queues.SUBJECTS_A_TURN - 1
    held._due = float("inf")
    rows = await held.view("default")
    assert len(rows) == queues.ROWS_MAX
    assert min(row.queued for row in rows) == 5_001 - queues.ROWS_MAX
