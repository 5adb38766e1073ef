"""A key is kept through `kill -9`: one execution, whoever dies between."""

import asyncio
import contextlib
import os
import signal

import httpx
import pytest

from tests.acceptance.conftest import Product, child
from tests.callers import caller
from tests.wait import until

SLOW = """
def run(input):
    for _ in range(40_000_000):
        pass
    return input.upper()
"""
"""A second or two; programs cannot sleep."""
BODY = {"input": "a"}
KEY = {"Idempotency-Key": "order-4711"}


async def _running(product: Product) -> None:
    """Return when a worker has the execution in hand."""

    async def in_hand() -> bool:
        return any(
            consumer.num_ack_pending
            for consumer in await product.bus.jetstream.consumers_info("EXECUTE")
        )

    await until(in_hand)


@pytest.mark.parametrize("ingresses", [2])
async def test_a_hundred_duplicates_and_a_killed_executor_cause_one_execution(
    product: Product,
) -> None:
    """Over two ingress processes, the executor killed while it runs it: RECORDS has one."""
    await product.create(code=SLOW)
    async with contextlib.AsyncExitStack() as stack:
        callers = [await stack.enter_async_context(caller(product.stack.url)) for _ in range(20)]
        assert len({pid for _, pid in callers}) == 2

        async def ask(number: int) -> httpx.Response:
            # Five on each connection, one after the other, would not be at once.
            http = callers[number % 20][0] if number < 20 else product.http
            return await http.post("/api/v1/tasks/upper/execute", json=BODY, headers=KEY)

        asking = [asyncio.create_task(ask(number)) for number in range(100)]
        await _running(product)
        product.kill("executor")
        answers = await asyncio.gather(*asking)

    assert {answer.status_code for answer in answers} == {200}
    (record,) = await product.records()
    assert record.attempt > 1
    assert {answer.json()["id"] for answer in answers} == {record.id}
    assert {answer.json()["output"] for answer in answers} == {"A"}
    again = await product.http.post("/api/v1/tasks/upper/execute", json=BODY, headers=KEY)
    assert again.json()["id"] == record.id
    assert len(await product.records()) == 1


async def test_a_killed_ingress_does_not_repeat_what_it_had_sent(product: Product) -> None:
    """The caller gets no answer, asks again, and gets the execution that was under way."""
    await product.create(code=SLOW)
    path = "/api/v1/tasks/upper/execute"
    asking = asyncio.create_task(product.http.post(path, json=BODY, headers=KEY))
    await _running(product)
    os.kill(child("loopai.ingress"), signal.SIGKILL)
    with pytest.raises(httpx.HTTPError):
        await asking

    async def answered() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = await product.http.post(path, json=BODY, headers=KEY)
            return answer.status_code == 200 and answer.json()["output"] == "A"
        return False

    await until(answered, within_s=30)
    assert len(await product.records()) == 1


async def test_a_killed_ingress_leaves_its_claim_to_the_next(product: Product) -> None:
    """Killed in the middle of a batch: who asks again has it run, by the ingress that came back."""
    await product.create(code=SLOW)
    body = {"task_id": "upper", "items": [BODY]}
    asking = asyncio.create_task(product.http.post("/api/v1/batch/execute", json=body, headers=KEY))
    await _running(product)
    os.kill(child("loopai.ingress"), signal.SIGKILL)
    with pytest.raises(httpx.HTTPError):
        await asking

    async def answered() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            answer = await product.http.post("/api/v1/batch/execute", json=body, headers=KEY)
            return answer.status_code == 200 and answer.json()["succeeded"] == 1
        return False

    await until(answered, within_s=40)
    again = await product.http.post("/api/v1/batch/execute", json=body, headers=KEY)
    assert again.headers["idempotent-replayed"] == "true"
