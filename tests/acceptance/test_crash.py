"""Processes die in the middle of work: every accepted execution still ends exactly once."""

import asyncio
import contextlib
import os
import signal
from collections import Counter

import httpx
import pytest

from streams.messages import ExecutionRecord
from tests.acceptance.conftest import Product, child
from tests.wait import until


async def _after(product: Product, number: int) -> None:
    """Return when *number* executions are recorded: work is in full swing."""

    async def reached() -> bool:
        return (await product.bus.jetstream.stream_info("RECORDS")).state.messages >= number

    await until(reached)


def _twice(ids: list[str]) -> list[str]:
    return [each for each, count in Counter(ids).items() if count > 1]


async def test_a_killed_executor_costs_no_answer_and_repeats_none(product: Product) -> None:
    """kill -9 in the middle of 500 requests: 500 answers, 500 distinct records."""
    await product.create()
    values = [f"text {n}" for n in range(500)]
    working = asyncio.create_task(product.execute_all(values, at_once=64))
    await _after(product, 10)

    killed = product.kill("executor")
    answers = await working

    assert [a.status_code for a in answers] == [200] * 500
    assert [a.json()["output"] for a in answers] == [v.upper() for v in values]
    recorded = [record.id for record in await product.records()]
    assert _twice(recorded) == []
    assert set(recorded) == {a.json()["id"] for a in answers}
    assert product.alive("executor")[-1].pid != killed


async def test_a_killed_ingress_loses_nothing_that_it_accepted(product: Product) -> None:
    """Callers of a dead ingress get no answer, but what it had accepted is run and recorded."""
    await product.create()
    accepted: set[str] = set()

    async def submit(number: int) -> None:
        with contextlib.suppress(httpx.HTTPError):
            answer = await product.http.post(
                "/api/v1/tasks/upper/execute",
                json={"input": f"text {number}"},
                headers={"Prefer": "respond-async"},
            )
            if answer.status_code == 202:
                accepted.add(answer.json()["id"])

    working = asyncio.gather(*(submit(n) for n in range(300)))
    await until(lambda: len(accepted) >= 20)
    os.kill(child("loopai.ingress"), signal.SIGKILL)
    await working
    assert len(accepted) >= 20

    async def all_recorded() -> bool:
        return accepted <= {record.id for record in await product.records()}

    await until(all_recorded, within_s=30)
    assert _twice([record.id for record in await product.records()]) == []

    async def back() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return (await product.execute("again")).status_code == 200
        return False

    await until(back, within_s=30)


async def test_a_killed_broker_loses_nothing_that_it_confirmed(product: Product) -> None:
    """kill -9 of the broker: every answer that says 200 is in the audit, once; work goes on."""
    await product.create()
    values = [f"text {n}" for n in range(400)]
    working = asyncio.create_task(product.execute_all(values, at_once=32))
    await _after(product, 10)

    os.kill(child("nats-server"), signal.SIGKILL)
    answers = await working

    assert {a.status_code for a in answers} <= {200, 503, 504}
    answered = {a.json()["id"] for a in answers if a.status_code == 200}
    assert len(answered) >= 10
    recorded = [record.id for record in await product.records()]
    assert _twice(recorded) == []
    assert answered <= set(recorded)
    assert (await product.execute("after")).json()["output"] == "AFTER"


async def test_a_stopped_executor_hands_its_work_over(product: Product) -> None:
    """SIGTERM ends what was begun and gives back the rest: nothing waits, nothing is twice."""
    await product.create()
    values = [f"text {n}" for n in range(400)]
    working = asyncio.create_task(product.execute_all(values, at_once=32))
    await _after(product, 10)

    product.kill("executor", signal.SIGTERM)
    answers = await working

    assert [a.status_code for a in answers] == [200] * 400
    recorded = [record.id for record in await product.records()]
    assert _twice(recorded) == []
    assert set(recorded) == {a.json()["id"] for a in answers}


async def test_a_program_that_kills_its_cell_hurts_only_its_own_call(product: Product) -> None:
    """A hang, a crash and a memory hog among good calls: each has its own outcome."""
    code = (
        "def run(input):\n"
        "    if input == 'hang':\n"
        "        return str(sum(range(10**11)))\n"
        "    if input == 'eat':\n"
        "        return 'x' * 10**9\n"
        "    if input == 'raise':\n"
        "        raise ValueError('no')\n"
        "    return input.upper()\n"
    )
    await product.create("mixed", code)
    values = ["a", "hang", "b", "eat", "c", "raise", "d"]

    answers = await asyncio.gather(*(product.execute(v, "mixed") for v in values))

    assert [a.status_code for a in answers] == [200] * 7
    bodies = [a.json() for a in answers]
    statuses = [body["status"] for body in bodies]
    assert statuses == ["success", "timeout", "success", "error", "success", "error", "success"]
    assert [b["output"] for b in bodies if b["status"] == "success"] == ["A", "B", "C", "D"]
    error = bodies[5]["error"]
    assert (error["type"], error["message"]) == ("ValueError", "line 7: no")
    assert (error["outcome"], error["line"]) == ("error", 7)
    assert 'File "program.py", line 7' in error["traceback"]
    assert bodies[3]["error"]["type"] == "out_of_memory"


@pytest.mark.parametrize("executors", [2])
async def test_an_executor_that_slept_records_nothing_that_another_redid(
    product: Product,
) -> None:
    """SIGSTOP past the lease, then SIGCONT: the sleeper drops its work, nothing is twice."""
    await product.create()
    values = [f"text {n}" for n in range(400)]
    working = asyncio.create_task(product.execute_all(values, at_once=64))
    await _after(product, 10)

    sleeper = product.kill("executor", signal.SIGSTOP)
    answers = await working
    os.kill(sleeper, signal.SIGCONT)

    assert [a.status_code for a in answers] == [200] * 400

    # Awake again it takes new work, so what it held before has been settled.
    async def awake() -> bool:
        await product.execute("again")
        latest = (await product.records())[-50:]
        return any(r.worker.startswith("executor") and _pid(product, r) == sleeper for r in latest)

    await until(awake, within_s=30)
    recorded = [record.id for record in await product.records()]
    assert _twice(recorded) == []
    assert {a.json()["id"] for a in answers} <= set(recorded)


def _pid(product: Product, record: ExecutionRecord) -> int | None:
    return next((w.pid for w in product.alive("executor") if w.instance == record.worker), None)
